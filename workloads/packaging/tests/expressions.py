"""Asks a Prometheus that watches all three services about every expression of the alerts and of the dashboard.

    expressions.py URL ALERTS DASHBOARD

Each has to be understood, and each metric that it names has to be there. Prints what is wrong; the exit status is 1 then.
"""

import json
import re
import sys
import urllib.parse
import urllib.request

import yaml

METRIC = re.compile(r"\bannulus_[a-z0-9_]+")
# What Grafana puts in their place.
VARIABLES = {"$__rate_interval": "1m", "$instance": ".*"}


def ask(base, path, **words):
    """An answer of the API."""
    url = f"{base}/api/v1/{path}?{urllib.parse.urlencode(words)}"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


def expressions(alerts, dashboard):
    """Every expression, with where it is."""
    with open(alerts, encoding="utf-8") as file:
        for group in yaml.safe_load(file)["groups"]:
            for rule in group["rules"]:
                yield f"alert {rule['alert']}", rule["expr"]
    with open(dashboard, encoding="utf-8") as file:
        for panel in json.load(file)["panels"]:
            for target in panel.get("targets", []):
                expression = target["expr"]
                for variable, value in VARIABLES.items():
                    expression = expression.replace(variable, value)
                yield f"panel {panel['title']!r}", expression


def main():
    """Asks about all of them."""
    base, alerts, dashboard = sys.argv[1:]
    known = set(ask(base, "label/__name__/values")["data"])
    wrong, count, named = 0, 0, set()
    for where, expression in expressions(alerts, dashboard):
        count += 1
        answer = ask(base, "query", query=expression)
        if answer["status"] != "success":
            wrong += 1
            print(f"{where}: {expression}: {answer.get('error')}")
        metrics = set(METRIC.findall(expression))
        named |= metrics
        for metric in sorted(metrics - known):
            wrong += 1
            print(f"{where}: no service has {metric}")
    print(f"{count} expressions, {len(named)} metrics of {len(known)} that are there: {wrong} wrong")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
