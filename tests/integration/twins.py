"""The same work done on a mount and natively, on the same kind of file system, and what differs between the two."""

import collections
import contextlib
import errno
import hashlib
import json
import os
import re
import stat

import calls
import harness

# Who does something. @lacks is a capability that is taken away.
Person = collections.namedtuple("Person", "name uid gid groups lacks", defaults=((), None))

# No account has these numbers; nothing here needs one.
TEAM, OTHER_TEAM = 62001, 62002

ROOT = Person("root", 0, 0)
TAMED_ROOT = Person("root without CAP_FSETID", 0, 0, (), calls.CAP_FSETID)
OWNER = Person("owner", 61001, 61001, (TEAM,))
MEMBER = Person("member", 61002, 61002, (TEAM,))
STRANGER = Person("stranger", 61003, 61003)

# What no test asks for: labels that a security module gives by itself.
IGNORED_XATTRS = ("security.selinux",)

CONTENT_MAX = 1 << 20

# An expression that no path matches.
NOTHING = r"(?!)"


def attempt(call, *arguments, **named):
    """What @call returns, or the name of the error that it fails with."""
    try:
        value = call(*arguments, **named)
    except OSError as error:
        return errno.errorcode[error.errno]
    return value.hex() if isinstance(value, bytes) else value


def become(person):
    os.setgroups(list(person.groups))
    os.setresgid(person.gid, person.gid, person.gid)
    os.setresuid(person.uid, person.uid, person.uid)
    if person.lacks is not None:
        calls.drop_capability(person.lacks)


def mode_of(path):
    """Type and permissions, as a number that a person can read."""
    return oct(os.lstat(path).st_mode)


@contextlib.contextmanager
def opened(path, flags, mode=0o644):
    fd = os.open(path, flags, mode)
    try:
        yield fd
    finally:
        os.close(fd)


def read_file(path):
    with open(path, "rb") as file:
        return file.read()


def write_file(path, data):
    with open(path, "wb") as file:
        file.write(data)


def make_file(path, data=b"", mode=0o644, owner=None):
    """A file with exactly this mode, whatever the umask."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(fd, data)
    if owner:
        os.fchown(fd, *owner)
    os.fchmod(fd, mode)
    os.close(fd)


def make_directory(path, mode=0o755, owner=None):
    os.mkdir(path)
    if owner:
        os.chown(path, *owner)
    os.chmod(path, mode)


# ---- What a tree is ----

def content_of(path, st):
    if st.st_size > CONTENT_MAX:
        return None
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()[:16]


def facts(path):
    """What can be seen of a file and does not depend on when and where it was made."""
    st = os.lstat(path)
    found = {"mode": oct(st.st_mode), "owner": [st.st_uid, st.st_gid], "links": st.st_nlink}
    if stat.S_ISREG(st.st_mode):
        found |= {"size": st.st_size, "content": content_of(path, st)}
    elif stat.S_ISLNK(st.st_mode):
        found["target"] = os.readlink(path)
    elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
        found["device"] = st.st_rdev
    for name in os.listxattr(path, follow_symlinks=False):
        if name not in IGNORED_XATTRS:
            found[name] = os.getxattr(path, name, follow_symlinks=False).hex()
    return found


def tree(root):
    """{path: facts} of everything at and below @root."""
    found = {"": facts(root)}
    pending = [""]
    while pending:
        parent = pending.pop()
        with os.scandir(os.path.join(root, parent)) as entries:
            for entry in entries:
                path = os.path.join(parent, entry.name)
                found[path] = facts(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
    return found


def differences(ours, theirs, our_name, their_name):
    """What differs between two dictionaries, as sentences."""
    return [f"{key!r}: {our_name} {ours.get(key)}, {their_name} {theirs.get(key)}"
            for key in sorted(ours.keys() | theirs.keys()) if ours.get(key) != theirs.get(key)]


# ---- Two of them ----

def observe(root, work, who, umask):
    """Do @work as @who in @root, in a child process."""
    def in_root():
        os.chdir(root)
        os.umask(umask)
        become(who)
        return work()
    return harness.in_child(in_root).value


class Twins:
    """
    A mount, and a tree beside its source on which everything is done natively, too.

    Work is a function that uses relative names and returns what it saw, as JSON can carry it.
    """

    def __init__(self, mounted, native):
        self.mounted = mounted
        self.native = native
        os.mkdir(native)
        os.chmod(native, stat.S_IMODE(os.stat(mounted.source).st_mode))

    def same(self, work, who=ROOT, umask=0o022):
        """Do @work on both as @who. What it returns must be the same, and then so must be the trees; returns it."""
        native = observe(self.native, work, who, umask)
        ours = observe(self.mounted.point, work, who, umask)
        assert ours == native, f"{who.name} {self.explain(ours, native)}"
        self.check_trees()
        return ours

    @staticmethod
    def explain(ours, native):
        if isinstance(ours, list) and isinstance(native, list):
            ours, native = dict(enumerate(map(json.dumps, ours))), dict(enumerate(map(json.dumps, native)))
        if isinstance(ours, dict) and isinstance(native, dict):
            return "\n".join(["gets something else:", *differences(ours, native, "mount", "native")[:40]])
        return f"gets {ours}, natively {native}"

    def tree_of(self, root):
        return tree(root)

    def check_trees(self):
        """What the mount shows, what is underneath, and what the native tree is, are one."""
        native, shown, real = map(self.tree_of, (self.native, self.mounted.point, self.mounted.real))
        wrong = differences(shown, native, "mount", "native") + differences(real, native, "source", "native")
        assert not wrong, "\n".join(wrong[:40])


class ProgramTwins(Twins):
    """
    Twins for real programs, which write down where they are.

    A path of the tree is the same on both sides, wherever a file mentions it. Of a file whose path matches the expression
    @unlike nothing but the contents may differ: a program has put a time or a random number there. What matches @left_out
    is not looked at. Names of one inode must be the same names everywhere.
    """

    def __init__(self, mounted, native, unlike=NOTHING, left_out=NOTHING):
        super().__init__(mounted, native)
        self.unlike = re.compile(unlike)
        self.left_out = re.compile(left_out)

    def _contents(self, path):
        with open(path, "rb") as file:
            data = file.read()
        for root in (self.mounted.point, self.native):
            data = data.replace(os.fsencode(root), b"ROOT")
        return {"size": len(data), "content": hashlib.sha256(data).hexdigest()[:16]}

    def tree_of(self, root):
        found = {path: seen for path, seen in tree(root).items() if not self.left_out.search(path)}
        first_names = {}
        for path in sorted(found):
            full = os.path.join(root, path)
            st = os.lstat(full)
            if self.unlike.search(path):
                found[path] |= {"size": None, "content": None}
            elif stat.S_ISREG(st.st_mode):
                found[path] |= self._contents(full)
            if not stat.S_ISDIR(st.st_mode):
                found[path]["first name"] = first_names.setdefault(st.st_ino, path)
        return found

    def copy_of(self, root):
        """A tree with what a faithful copy of it also has: times (not of access: looking changes them) and holes."""
        found = self.tree_of(root)
        for path, facts_found in found.items():
            st = os.lstat(os.path.join(root, path))
            facts_found["mtime"] = st.st_mtime_ns
            if stat.S_ISREG(st.st_mode):
                facts_found["blocks"] = st.st_blocks
        return found

    def check_copy(self, root, original, without=()):
        """The trees at two paths, wherever they are, are one, but for these facts."""
        ours, theirs = self.copy_of(root), self.copy_of(original)
        for fact in (*ours.values(), *theirs.values()):
            for name in without:
                fact.pop(name, None)
        wrong = differences(ours, theirs, root, original)
        assert not wrong, "\n".join(wrong[:40])
