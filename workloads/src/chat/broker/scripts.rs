//! What Redis does at once or not at all.
//!
//! ```text
//!   PREFIX.meta.{CHANNEL}        hash: e epoch, t last number, r the run of the server that wrote last,
//!                                x some were removed, xNUMBER that one was
//!   PREFIX.stream.{CHANNEL}      stream: NUMBER-0, p the publication
//!   PREFIX.key.{CHANNEL}.KEY     text: epoch, payload's hash, number of what was published with that key
//!   PREFIX.chan.{CHANNEL}        what is passed on
//! ```
//!
//! The braces keep all of a channel on one server of a cluster.

use std::sync::LazyLock;

use crate::redis::Script;

/// What every script begins with: the channel's life and last number. `KEYS[1]` is the meta hash, `KEYS[2]` the stream;
/// `ARGV[1]` the server's run, `ARGV[2]` whether another run may have lost something, `ARGV[3]` a new epoch if need be.
macro_rules! with_life {
    ($rest:literal) => {
        concat!(
            "local function life()\n",
            "  local meta = redis.call('HMGET', KEYS[1], 'e', 'r', 't')\n",
            "  if not meta[1] then\n",
            "    redis.call('DEL', KEYS[2])\n",
            "    redis.call('HSET', KEYS[1], 'e', ARGV[3], 'r', ARGV[1], 't', '0')\n",
            "    return ARGV[3], 0\n",
            "  end\n",
            "  if meta[2] ~= ARGV[1] then\n",
            "    redis.call('HSET', KEYS[1], 'r', ARGV[1])\n",
            "    if ARGV[2] == '1' then\n",
            "      redis.call('HSET', KEYS[1], 'e', ARGV[3])\n",
            "      return ARGV[3], tonumber(meta[3])\n",
            "    end\n",
            "  end\n",
            "  return meta[1], tonumber(meta[3])\n",
            "end\n",
            $rest
        )
    };
}

/// Numbers a publication, keeps it, remembers its key, passes it on. `KEYS`: meta, stream, key, channel. `ARGV`, after those
/// of every script: 4 the publication, 5 how many are kept, 6 for how long, 7 for how long the meta hash is, 8 the payload's
/// hash in 16 hexadecimal digits, 9 for how long the key is kept, 10 the command that passes on. Times are milliseconds.
/// Gives epoch, number, whether it was there already, and the payload's hash of what is there.
pub static ADD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(with_life!(
        "
local known = redis.call('GET', KEYS[3])
if known then
  return {string.sub(known, 1, 4), tonumber(string.sub(known, 21)), 1, string.sub(known, 5, 20)}
end
local epoch, top = life()
local number = string.format('%.0f', top + 1)
redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[5], number .. '-0', 'p', ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[6])
redis.call('HSET', KEYS[1], 't', number)
redis.call('PEXPIRE', KEYS[1], ARGV[7])
redis.call('SET', KEYS[3], epoch .. ARGV[8] .. number, 'PX', ARGV[9])
redis.call(ARGV[10], KEYS[4], '1P' .. epoch .. number .. ':' .. ARGV[4])
return {epoch, top + 1, 0, ARGV[8]}
"
    ))
});

/// Reads a part of a history. `KEYS`: meta, stream. `ARGV`, after those of every script: 4 for how long the meta hash is
/// kept, 5 `after`, `before` or `end`, 6 of which number, 7 how many. Gives epoch, last number, and the stream's entries;
/// those that were removed are empty.
pub static READ: LazyLock<Script> = LazyLock::new(|| {
    Script::new(with_life!(
        "
local epoch, top = life()
redis.call('PEXPIRE', KEYS[1], ARGV[4])
local entries = {}
if ARGV[7] ~= '0' then
  if ARGV[5] == 'after' then
    entries = redis.call('XRANGE', KEYS[2], '(' .. ARGV[6] .. '-0', '+', 'COUNT', ARGV[7])
  elseif ARGV[5] == 'before' then
    entries = redis.call('XREVRANGE', KEYS[2], '(' .. ARGV[6] .. '-0', '-', 'COUNT', ARGV[7])
  else
    entries = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', ARGV[7])
  end
  if redis.call('HEXISTS', KEYS[1], 'x') == 1 then
    for at = 1, #entries do
      local number = string.match(entries[at][1], '^%d+')
      if redis.call('HEXISTS', KEYS[1], 'x' .. number) == 1 then
        entries[at][2][2] = ''
      end
    end
  end
end
return {epoch, top, entries}
"
    ))
});

/// Forgets a history; its numbers go on. `KEYS`: meta, stream, channel. `ARGV`, after those of every script: 4 for how long
/// the meta hash is kept, 5 the command that passes on.
pub static CLEAR: LazyLock<Script> = LazyLock::new(|| {
    Script::new(with_life!(
        "
local epoch, top = life()
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('DEL', KEYS[2])
if redis.call('HEXISTS', KEYS[1], 'x') == 1 then
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.sub(field, 1, 1) == 'x' then
      redis.call('HDEL', KEYS[1], field)
    end
  end
end
redis.call(ARGV[5], KEYS[3], '1C' .. epoch .. string.format('%.0f', top) .. ':')
return {epoch, top}
"
    ))
});

/// Removes a publication: an entry of a stream cannot be changed, and without it the stream would have a gap, so it is noted
/// that nobody is given it. `KEYS` and `ARGV` as of [`CLEAR`], then 6 the number, 7 the epoch that is meant, or nothing. Gives
/// the epoch, and 1 if such a number was given in it.
pub static REMOVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(with_life!(
        "
local epoch, top = life()
redis.call('PEXPIRE', KEYS[1], ARGV[4])
local number = tonumber(ARGV[6])
if number < 1 or number > top or (ARGV[7] ~= '' and ARGV[7] ~= epoch) then
  return {epoch, 0}
end
if #redis.call('XRANGE', KEYS[2], ARGV[6] .. '-0', ARGV[6] .. '-0') == 1 then
  local oldest = tonumber(string.match(redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', '1')[1][1], '^%d+'))
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    local noted = tonumber(string.match(field, '^x(%d+)$') or '')
    if noted and noted < oldest then
      redis.call('HDEL', KEYS[1], field)
    end
  end
  redis.call('HSET', KEYS[1], 'x', '1', 'x' .. ARGV[6], '1')
end
redis.call(ARGV[5], KEYS[3], '1R' .. epoch .. ARGV[6] .. ':')
return {epoch, 1}
"
    ))
});
