"""The tree that workloads work on: about 4,700 files like those of a project in C or JavaScript, always the same."""

import io
import os
import random
import tarfile

FILES = 4700
EPOCH = 1_700_000_000
# Who runs the bench, as a developer's tree is his. Of somebody else's the kernel asks hrfs for ACLs, which passthrough_hp has not.
OWNER = os.getuid()

WORDS = """buffer cache channel client config context cursor decode device driver encode engine entry error
event field filter format frame graph group handle header index input journal kernel layout length limit lock manager
map memory message mode module name node offset option output packet parse path pointer pool position process queue
range read record request result ring scope search server session signal size socket source state status stream
string symbol table target task thread time token tree type update user value vector version window worker
write""".split()
SUFFIXES = (["c"] * 30 + ["h"] * 20 + ["js"] * 20 + ["py"] * 8 + ["md"] * 6 + ["json"] * 6 + ["txt"] * 4 +
            ["png"] * 3 + ["sh"] * 3)


def make_text(chance, size):
    lines, length = [], 0
    while length < size:
        line = "\t" * chance.randrange(3) + " ".join(chance.choices(WORDS, k=chance.randrange(2, 11))) + ";\n"
        lines.append(line)
        length += len(line)
    return "".join(lines).encode()[:size]


def make_folders(chance, count):
    """Folders three or four deep, most of them with a few files and some with many."""
    folders = []
    for number in range(count):
        parent = chance.choice(folders[:1 + number // 4]) if number else "project"
        if parent.count("/") > 4:
            parent = "project"
        folders.append(f"{parent}/{chance.choice(WORDS)}{number}" if number else parent)
    return folders


def make_tarball(path, files=FILES):
    """Sizes are log-normal, as in real projects: half of them below 5 KiB, the mean about 13 KiB, the largest some MiB."""
    chance = random.Random(5)
    folders = make_folders(chance, max(4, files // 12))
    with tarfile.open(path + ".new", "w") as tar:
        def add(name, data=b"", **fields):
            member = tarfile.TarInfo(name)
            member.mtime, member.size, member.uid, member.gid = EPOCH, len(data), OWNER, OWNER
            for field, value in fields.items():
                setattr(member, field, value)
            tar.addfile(member, io.BytesIO(data))

        for folder in folders:
            add(folder, type=tarfile.DIRTYPE, mode=0o755)
        for number in range(files):
            suffix = chance.choice(SUFFIXES)
            size = min(int(chance.lognormvariate(8.5, 1.4)), 4 << 20)
            data = chance.randbytes(size) if suffix == "png" else make_text(chance, size)
            name = f"{chance.choice(folders)}/{chance.choice(WORDS)}_{number}.{suffix}"
            add(name, data, mode=0o755 if suffix == "sh" else 0o644)
        for number in range(files // 100):
            add(f"{chance.choice(folders)}/link{number}", type=tarfile.SYMTYPE, linkname="../README", mode=0o777)
    os.rename(path + ".new", path)
