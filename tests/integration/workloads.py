"""Work that real programs do, and trees to do it on."""

import io
import os
import random
import subprocess
import tarfile

import replay

EPOCH = 1_700_000_000

# The same work at the same time by the same person: git then gives commits the same names.
GIT_ENVIRONMENT = {
    **os.environ,
    "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org", "GIT_AUTHOR_DATE": f"{EPOCH} +0000",
    "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.org", "GIT_COMMITTER_DATE": f"{EPOCH} +0000",
    "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null",
    # A pack is made the same way twice only by one thread; and nothing goes on in the background.
    "GIT_CONFIG_COUNT": "2", "GIT_CONFIG_KEY_0": "pack.threads", "GIT_CONFIG_VALUE_0": "1",
    "GIT_CONFIG_KEY_1": "gc.auto", "GIT_CONFIG_VALUE_1": "0",
}


def run(*command, **options):
    """Run a program to its good end; what it said stands in the error when it has another."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="surrogateescape", **options)
    assert done.returncode == 0, f"{command} ended with {done.returncode}: {done.stdout[-2000:]}"
    return done.stdout


def make_tarball(path, files):
    """A tarball of @files regular files, and directories, symlinks and hard links to go with them."""
    chance = random.Random(1)
    with tarfile.open(path, "w") as tar:
        def add(name, **fields):
            member = tarfile.TarInfo(name)
            member.mtime = EPOCH
            data = fields.pop("data", b"")
            member.size = len(data)
            for field, value in fields.items():
                setattr(member, field, value)
            tar.addfile(member, io.BytesIO(data))

        names = []
        for number in range(files):
            folder = f"d{number % 97}/e{number % 7}"
            if number < 97 * 7:
                add(folder, type=tarfile.DIRTYPE, mode=0o755)
            name = f"{folder}/file{number}.txt"
            names.append(name)
            add(name, mode=chance.choice([0o644, 0o644, 0o755, 0o600]),
                data=chance.randbytes(chance.choice([0, 100, 3000, 20000])))
        for number in range(files // 50):
            add(f"d{number % 97}/symlink{number}", type=tarfile.SYMTYPE, linkname=f"e0/{number}", mode=0o777)
            add(f"d{number % 97}/hardlink{number}", type=tarfile.LNKTYPE, linkname=chance.choice(names), mode=0o644)


def untar(tarball, where):
    run("tar", "-x", "-f", tarball, "-C", where)


def git(where, *arguments):
    return run("git", "-C", where, *arguments, env=GIT_ENVIRONMENT)


def git_work(where):
    """Commit a tree, change a part of it on another branch, and go back and forth."""
    git(where, "init", "-q", "-b", "main")
    git(where, "add", "-A")
    git(where, "commit", "-q", "-m", "all")
    git(where, "checkout", "-q", "-b", "other")
    for number in range(0, 97, 3):
        run("rm", "-r", os.path.join(where, f"d{number}"))
    for number in range(1, 97, 3):
        with open(os.path.join(where, f"d{number}/changed"), "w") as changed:
            changed.write("changed\n")
    git(where, "add", "-A")
    git(where, "commit", "-q", "-m", "some")
    git(where, "checkout", "-q", "main")
    git(where, "checkout", "-q", "other")


def npm_install(cache, where):
    with open(os.path.join(where, "package.json"), "w") as package:
        package.write('{"name": "x", "version": "1.0.0", "dependencies": {"express": "4.21.2"}}\n')
    run("npm", "install", "--no-audit", "--no-fund", "--no-update-notifier", "--prefer-offline", "--loglevel=error",
        "--cache", cache, cwd=where)


def make_lua(tarball, where):
    run("tar", "-x", "-f", tarball, "-C", where, "--strip-components=1", "--no-same-owner")
    run("make", "-j2", "generic", cwd=where)
    run("make", "install", f"INSTALL_TOP={where}/installed", cwd=where)
    assert "Lua" in run(f"{where}/installed/bin/lua", "-v")


def tree_differences(ours, theirs, without=()):
    """What differs between two trees on disk: names, types, modes, sizes, links, contents. [] when nothing does."""
    def walk(root):
        return {path: node for path, node in replay.walk(root).items() if path.split("/")[0] not in without}
    found = replay.differences(walk(ours), walk(theirs))
    excludes = [f"--exclude={name}" for name in without]
    done = subprocess.run(["diff", "-r", "-q", "--no-dereference", *excludes, ours, theirs], capture_output=True,
                          text=True, errors="surrogateescape")
    return found + done.stdout.splitlines()
