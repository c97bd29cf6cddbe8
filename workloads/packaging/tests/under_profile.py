"""Runs a program under a seccomp profile in Docker's format, as a container's runtime would, for where there is no runtime.

    under_profile.py PROFILE PROGRAM [ARGUMENT]...

Needs libseccomp's bindings (Debian: python3-seccomp). Of the format it knows what our profile uses, and refuses the rest.
"""

import json
import os
import sys

import seccomp

ACTIONS = {"SCMP_ACT_ALLOW": lambda _: seccomp.ALLOW, "SCMP_ACT_ERRNO": seccomp.ERRNO}
COMPARISONS = {"SCMP_CMP_EQ": seccomp.EQ, "SCMP_CMP_MASKED_EQ": seccomp.MASKED_EQ}


def argument(said):
    """A condition of a rule."""
    if said["op"] == "SCMP_CMP_MASKED_EQ":
        return seccomp.Arg(said["index"], seccomp.MASKED_EQ, said["value"], said["valueTwo"])
    return seccomp.Arg(said["index"], COMPARISONS[said["op"]], said["value"])


def load(profile):
    """Shuts this process in."""
    unknown = set(profile) - {"defaultAction", "defaultErrnoRet", "archMap", "syscalls"}
    if unknown:
        raise SystemExit(f"under_profile.py does not know {sorted(unknown)}")
    made = seccomp.SyscallFilter(ACTIONS[profile["defaultAction"]](profile["defaultErrnoRet"]))
    for rule in profile["syscalls"]:
        unknown = set(rule) - {"comment", "names", "action", "args", "errnoRet"}
        if unknown:
            raise SystemExit(f"under_profile.py does not know {sorted(unknown)}")
        action = ACTIONS[rule["action"]](rule.get("errnoRet", 1))
        for name in rule["names"]:
            try:
                number = seccomp.resolve_syscall(seccomp.Arch(), name)
            except ValueError:
                raise SystemExit(f"there is no system call {name}")
            # Negative: not of this architecture.
            if number >= 0:
                made.add_rule(action, name, *map(argument, rule.get("args", [])))
    made.load()


def main():
    """Loads the profile and becomes the program."""
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        load(json.load(file))
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
