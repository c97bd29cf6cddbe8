#!/bin/bash
# Run within a booted Debian in which the package is installed: starts the units as a person would, replaces them, has one watched
# to death, and stops them. Every line has to succeed.
set -euo pipefail
trap 'echo "FAILED: line $LINENO: $BASH_COMMAND"; journalctl --no-pager --quiet --boot -u "annulus-*" | tail -40' ERR
main() { systemctl show --property MainPID --value "$1"; }
mkdir -p /run/systemd/system/annulus-image@.service.d
# Not a minute, here.
printf '[Service]\nWatchdogSec=8\n' >/run/systemd/system/annulus-image@.service.d/soon.conf
systemctl daemon-reload

echo "== start: it returns when all shards listen"
systemctl start annulus-chat@a annulus-gateway@a annulus-image@a
for unit in chat gateway image; do
  echo "$unit: $(systemctl show --property StatusText --value annulus-$unit@a), $(stat --format %U "/proc/$(main annulus-$unit@a)")"
  [ "$(systemctl show --property StatusText --value annulus-$unit@a)" = serving ]
done
for port in 8000/health 8080/__health 8070/health; do annulus fetch --fail "http://127.0.0.1:$port" >/dev/null; done
journalctl --no-pager --quiet -o cat -u 'annulus-*' | grep -E '^walls: ' | sort | uniq -c
grep -h '^Seccomp_filters' "/proc/$(main annulus-chat@a)/status"
annulus fetch -d '{"channel": "news", "data": {"n": 1}}' http://127.0.0.1:8000/api/publish | grep '"offset":1'
if [ -e /photo.jpg ]; then
  curl -sf -H 'Prefer: wait=50' --data-binary @/photo.jpg 'http://127.0.0.1:8070/v1/images?ops=small=rs:fit:256:256/f:webp' | grep -o '"state":"done"'
fi

echo "== reload"
systemctl reload annulus-chat@a annulus-gateway@a

echo "== b replaces a, and nobody is refused"
# Any answer will do: one that drains says of its health that it does.
(until [ -e /run/enough ]; do annulus fetch http://127.0.0.1:8080/__health >>/run/answers 2>/run/last || cat /run/last >>/run/lost; done) & asking=$!
systemctl start annulus-gateway@b annulus-chat@b
timeout 90 bash -c 'while systemctl is-active --quiet annulus-gateway@a || systemctl is-active --quiet annulus-chat@a; do sleep 0.2; done'
touch /run/enough; wait $asking
[ -s /run/answers ]; [ ! -s /run/lost ] || { cat /run/lost; false; }
for unit in chat gateway; do
  echo "$unit: a $(systemctl show --property ActiveState --value annulus-$unit@a) ($(systemctl show --property Result --value annulus-$unit@a)), b $(systemctl is-active annulus-$unit@b)"
  [ "$(systemctl show --property Result --value annulus-$unit@a)" = success ]
done
annulus fetch -d '{"channel": "news", "data": {"n": 2}}' http://127.0.0.1:8000/api/publish | grep '"offset":2'

echo "== a server whose shards do not turn is started anew"
kill -STOP "$(main annulus-image@a)"
# shellcheck disable=SC2016 # Said to another shell.
timeout 60 bash -c 'until [ "$(systemctl show --property NRestarts --value annulus-image@a)" = 1 ] && annulus fetch --fail http://127.0.0.1:8070/health; do sleep 0.5; done'
systemctl show --property Result,NRestarts annulus-image@a

echo "== stop"
systemctl stop annulus-chat@b annulus-gateway@b annulus-image@a
for unit in chat@b gateway@b image@a; do [ "$(systemctl show --property Result --value "annulus-$unit")" = success ]; done
ls -ld /var/lib/annulus-* /etc/annulus
echo "ALL WELL"
