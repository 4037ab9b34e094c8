"""One command on a bare machine: python3 run.py train | test | bench [arguments]

    train   the main job, examples/train_digits.py; try `train --help`
    test    ruff, mypy, pyright, then pytest, which gets the arguments
    bench   the benchmarks; try `bench --smoke`

Needs Python 3.11 or newer and nothing else: what a command needs is installed into .venv, once.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

if sys.version_info < (3, 11):
    sys.exit(
        f"akv needs Python 3.11 or newer, and {sys.executable} is {sys.version.split()[0]}. "
        "Type the same with a newer one, as in: python3.12 run.py test"
    )

import tomllib  # what older Pythons lack

ROOT = Path(__file__).resolve().parent
MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
CHECKS = (["ruff", "check"], ["ruff", "format", "--check"], ["mypy"], ["pyright"])


def main(argv: Sequence[str]) -> int:
    command, args = (argv[0], list(argv[1:])) if argv else ("help", [])
    if command == "train":
        return run(environment("examples"), str(ROOT / "examples" / "train_digits.py"), *args)
    if command == "test":
        return test(environment("dev") | {"AKV_DEBUG": "1"}, args)
    if command == "bench":
        return run(environment("examples"), "-m", "benchmarks", *args)
    print(__doc__)
    return 0 if command in {"help", "-h", "--help"} else 2


def test(env: dict[str, str], args: list[str]) -> int:
    """Every check runs, whatever the one before says, and pytest last: its counts are what a reader looks for."""
    codes: list[int] = []
    for check in CHECKS:
        say(" ".join(check))
        codes.append(run(env, "-m", *check))
    failed = [" ".join(check) for check, code in zip(CHECKS, codes, strict=True) if code]
    say("pytest" + (f" (already failed: {', '.join(failed)})" if failed else ""))
    codes.append(run(env, "-m", "pytest", *args))
    if failed:
        say(f"{', '.join(failed)} failed, above")  # again, where a reader of the last lines sees it
    return next((code for code in codes if code), 0)


def run(env: dict[str, str], *args: str) -> int:
    """Run the environment's Python in the repository; its exit code. When stopped, nothing else runs after it."""
    with subprocess.Popen([python_of(Path(env["VIRTUAL_ENV"])), *args], cwd=ROOT, env=env) as process:

        def stop(*_: object) -> NoReturn:
            process.terminate()
            raise KeyboardInterrupt

        signal.signal(signal.SIGTERM, stop)
        try:
            return exit_code(process.wait())
        except KeyboardInterrupt:  # Ctrl-C reached the tool as well, which may tidy up and report
            sys.exit(exit_code(process.wait()) or 130)


def exit_code(code: int) -> int:
    """A shell's way of saying that signal n ended a process: 128 + n."""
    return code if code >= 0 else 128 - code


# ---------------------------------------------------------------------------------------------- the environment


def environment(group: str) -> dict[str, str]:
    """The variables of an environment that has akv, editable, and a dependency group; made if it is not there."""
    venv = ROOT / ".venv" / f"py{MINOR.replace('.', '')}-{group}"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = list(requirements(project["dependency-groups"], group))
    stamp, wanted = venv / "akv.stamp", fingerprint(project, needed)
    if not stamp.is_file() or stamp.read_text(encoding="ascii") != wanted:
        make_venv(venv)
        install(venv, group, needed)
        stamp.write_text(wanted, encoding="ascii")  # last, so that an interrupted environment is made anew
    return activated(venv)


def requirements(groups: dict[str, list[Any]], name: str) -> Iterator[str]:
    """PEP 735 by hand: pip has --group only from 25.1 on, and a new environment gets the older one of its Python."""
    for item in groups[name]:
        if isinstance(item, str):
            yield item
        else:
            yield from requirements(groups, item["include-group"])


def fingerprint(project: dict[str, Any], needed: list[str]) -> str:
    """What decides whether an environment still fits: the interpreter, the place, and what gets installed."""
    packaging = [project["build-system"], project["project"], project["tool"]["hatch"]]
    facts = json.dumps([sys.version, sys.base_prefix, str(ROOT), needed, packaging], sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()


def install(venv: Path, group: str, needed: list[str]) -> None:
    say(f"installing akv (editable) and the {group} group; minutes the first time")
    pip = [python_of(venv), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    failure = attempt([*pip, "install", "--editable", str(ROOT), *needed], activated(venv))
    if failure:
        give_up(
            failure, "pip could not install what is needed (its words are above). When that is mended, run this again."
        )


def activated(venv: Path) -> dict[str, str]:
    """As `activate` does it, and without the variables that would let another Python's packages in."""
    env = {name: value for name, value in os.environ.items() if name not in {"PYTHONHOME", "PYTHONPATH"}}
    path = os.pathsep.join([str(Path(python_of(venv)).parent), env.get("PATH", os.defpath)])
    return env | {"VIRTUAL_ENV": str(venv), "PATH": path}


def python_of(venv: Path) -> str:
    return str(venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


# ------------------------------------------------------------------------- making one, on whatever is there


def make_venv(venv: Path) -> None:
    """Try one recipe after the other; each starts from nothing and ends with an environment whose pip works."""
    failures: list[str] = []
    for how, commands in recipes(venv):
        if shutil.which(commands[0][0]) is None:
            continue
        say(f"making {venv.relative_to(ROOT)} (Python {MINOR}) with {how}")
        shutil.rmtree(venv, ignore_errors=True)
        failure = first_failure([*commands, [python_of(venv), "-m", "pip", "--version"]])
        if not failure:
            return
        failures.append(failure)
    shutil.rmtree(venv, ignore_errors=True)
    give_up("\n".join(failures), f"{sys.executable} could not make a virtual environment (see above). {remedy()}")


def remedy() -> str:
    if lacks_debian_package():
        return f"Type this, then run again: sudo apt-get install python{MINOR}-venv"
    return "With uv or virtualenv on the PATH it works too; or take another Python."


def recipes(venv: Path) -> Iterator[tuple[str, list[list[str]]]]:
    here, target = sys.executable, str(venv)
    plain = [here, "-m", "venv", target]
    bare = [*plain, "--without-pip"]
    yield "venv", [plain]
    # Debian ships ensurepip apart from Python, in python3-venv: from here on, the ways round it
    yield "venv and this Python's pip", [bare, [here, "-m", "pip", "--python", python_of(venv), "install", "pip"]]
    yield "uv", [["uv", "venv", "--seed", "--python", here, target]]
    yield "virtualenv", [["virtualenv", "--python", here, target]]
    if lacks_debian_package() and hasattr(os, "geteuid") and os.geteuid() == 0:
        package = f"python{MINOR}-venv"
        get = ["apt-get", "install", "--yes", package]
        yield f"venv, after apt-get install {package}", [["apt-get", "update"], get, plain]


def lacks_debian_package() -> bool:
    """Debian's or Ubuntu's own Python without its ensurepip: the one case that apt-get mends."""
    own = sys.base_prefix == "/usr" and shutil.which("apt-get") is not None
    return own and importlib.util.find_spec("ensurepip") is None


def first_failure(commands: list[list[str]]) -> str:
    return next(filter(None, map(attempt, commands)), "")  # lazy: nothing runs after the first that fails


def attempt(command: list[str], env: dict[str, str] | None = None) -> str:
    """Run quietly; the answer is empty, or what the command printed when it failed."""
    done = subprocess.run(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    return "" if done.returncode == 0 else f"$ {' '.join(command)}\n{done.stdout}".rstrip()


def give_up(output: str, message: str) -> NoReturn:
    sys.exit("\n".join(filter(None, [output, f"run.py: {message}"])))


def say(text: str) -> None:
    print(f"run.py: {text}", flush=True)  # flushed, or a pipe shows it after the tool's own output


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
