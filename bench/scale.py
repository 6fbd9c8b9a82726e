"""Figures of size: the log with millions of events, and trees with millions of files."""

import json
import os
import resource
import subprocess
import time

import peers
import place as places
from feed import program
from figure import Family, Figure, median_figure
from workload import Failed, execute, loop

LOGS = (1_000_000, 10_000_000)
PATHS = 200_000
EVENTS_A_FILE = 5    # before bench-log goes on to the next
TREES = (1_000, 100_000, 1_000_000)
FILES_A_FOLDER = 100
INODES = 1_000_000
FEW_FILES = 1024     # ulimit -n
MILLI = 1e3


def short(number):
    return f"{number // 1_000_000} M" if number >= 1_000_000 else f"{number // 1000} k"


# ---- The log ----

def first_answer_ms(*arguments):
    """From the start of `hrfs log` to its first line."""
    start = time.monotonic()
    with subprocess.Popen([peers.HRFS, "log", *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        line = process.stdout.readline()
        seconds = time.monotonic() - start
        process.kill()
    if not line:
        raise Failed(f"hrfs log {' '.join(arguments)} says nothing")
    return seconds * MILLI


def folder_of(number):
    """The folder of file @number, as bench-log names it."""
    folder = number // 24
    return f"packages/project{folder // 40}/src/module{folder % 40}"


def log_of(events, bench):
    group, row, figures = "the log", f"{short(events)} events", []
    with places.scratch(places.disk_folder()) as folder:
        os.chmod(folder, 0o700)
        bench.say(f"log of {events} events")
        made = json.loads(execute(program("log"), folder, str(events), str(PATHS)))
        size = sum(entry.stat().st_size for entry in os.scandir(folder) if entry.name.startswith("events.db"))
        figures += [Figure(group, row, "appended and stored", events / made["seconds"], "/s"),
                    Figure(group, row, "drained, on one core", events / made["drain_cpu_s"], "/s", "500,000/s"),
                    Figure(group, row, "on disk, an event", size / events, "bytes", "64")]
        in_the_middle = folder_of(min(events // EVENTS_A_FILE, PATHS) // 2)
        questions = {
            "log --since, first answer": ("--since", str(events - 1000)),
            "log --under DIR, first answer": ("--under", in_the_middle),
            "log --under FILE, first answer": ("--under", in_the_middle + "/component0.c"),
        }
        for name, arguments in questions.items():
            bench.say(f"{name} of {events} events")
            limit = "5 ms" if "since" in name and events == LOGS[-1] else ""
            times = [first_answer_ms(*arguments, folder) for _ in range(bench.rounds + 1)]
            figures.append(median_figure(group, row, name, times[1:], "ms", limit))
    return figures


def log(bench):
    figures = []
    for events in LOGS:
        try:
            figures += log_of(bench.work.size(events), bench)
        except (Failed, ValueError) as error:
            bench.miss(f"log of {events} events", str(error))
    return figures


# ---- Mounting ----

def make_tree(source, files):
    loop("make-tree", source, max(1, files // FILES_A_FOLDER), min(files, FILES_A_FOLDER))


def mount_ms(peer, place):
    """From the start of mount.hrfs to its return, which is when the mount is live."""
    start = time.monotonic()
    command = [argument for argument in peer.command(place) if argument != "-f"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    seconds = time.monotonic() - start
    try:
        peer.check(place, None)
    finally:
        subprocess.run(["umount", place.mnt], check=True)
    wait_until_free(place)
    return seconds * MILLI


def wait_until_free(place):
    """The daemon in the background ends a little after umount(8); its lock says when."""
    execute("flock", "-w", str(peers.PATIENCE_S), os.path.join(place.state, "lock"), "true")


def inotify_ms(place):
    """From the start of inotifywait -r to its word that it watches."""
    start = time.monotonic()
    with subprocess.Popen(["inotifywait", "-m", "-r", place.source], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          text=True) as process:
        for line in process.stderr:
            if "established" in line:
                break
        else:
            raise Failed("inotifywait does not watch (fs.inotify.max_user_watches?)")
        seconds = time.monotonic() - start
        process.kill()
    return seconds * MILLI


def mount_times(files, bench):
    group, row = "from start to ready", f"{short(files)} files"
    found = {"hrfs mounted": [], "inotifywait -r ready": []}
    peer = bench.hrfs()
    with places.new_place(bench.parent) as place:
        make_tree(place.source, files)
        for number in range(bench.rounds + 1):
            bench.say(f"mount with {files} files, round {number}/{bench.rounds}")
            found["hrfs mounted"].append(mount_ms(peer, place))
            found["inotifywait -r ready"].append(inotify_ms(place))
    return [median_figure(group, row, column, values[1:], "ms", "50 ms" if "hrfs" in column else "")
            for column, values in found.items()]


def mounts(bench):
    peers.install("inotifywait", "inotify-tools")
    figures = []
    for files in TREES:
        try:
            figures += mount_times(bench.work.size(files), bench)
        except (Failed, peers.Void, subprocess.SubprocessError) as error:
            bench.miss(f"mount with {files} files", str(error))
    return figures


# ---- A million inodes ----

def with_few_files():
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW_FILES, FEW_FILES))


def family_of(pid):
    """A process and its children."""
    pids = [pid]
    for path in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{path}/children") as children:
            for child in children.read().split():
                pids += family_of(int(child))
    return pids


def resident_bytes(pid):
    """Memory of a process and its children; what they share is counted once, as far as the kernel divides it."""
    total = 0
    for member in family_of(pid):
        with open(f"/proc/{member}/smaps_rollup") as rollup:
            total += sum(int(line.split()[1]) for line in rollup if line.startswith("Pss:")) << 10
    return total


def know_inodes(peer, count, place, bench):
    """Look at @count names through the mount. Returns (bytes of memory that took, seconds)."""
    folders = max(1, count // FILES_A_FOLDER)
    with peer.mounted(place, preexec=with_few_files) as point:
        before = resident_bytes(peer.process.pid) if peer.process else 0
        seconds = loop("stat-tree", point, folders, FILES_A_FOLDER)
        after = resident_bytes(peer.process.pid) if peer.process else 0
    return after - before, seconds


def inodes(bench):
    count = bench.work.size(INODES)
    group, figures = f"{short(count)} inodes known under ulimit -n {FEW_FILES}", []
    with places.new_place(bench.parent) as place:
        make_tree(place.source, count)
        for peer in bench.peers_named("native", "hrfs", "passthrough_hp"):
            bench.say(f"{count} inodes on {peer.name}")
            try:
                memory, seconds = know_inodes(peer, count, place, bench)
            except (Failed, peers.Void, OSError) as error:
                bench.miss(f"inodes on {peer.name}", str(error))
                continue
            if peer.process:
                figures.append(Figure(group, peer.name, "memory an inode", memory / count, "bytes", "250 bytes"
                                      if peer.name == "hrfs" else ""))
            figures.append(Figure(group, peer.name, "time an inode", seconds / count * 1e6, "us"))
    return figures


FAMILIES = [
    Family("log", log, "drain rate, bytes an event, first answers of a log of 1 M and 10 M events"),
    Family("mount", mounts, "time to mount trees of 1 k, 100 k, 1 M files, beside inotifywait -r"),
    Family("inodes", inodes, "memory and time an inode, for a million of them with 1,024 descriptors"),
]
