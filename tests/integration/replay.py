"""Replay: a model of a tree, built from events, and what a tree on disk really is.

The model is strict. An event that cannot have happened in the tree as it is known so far (a create over an
existing name, an unlink of a missing one) raises Impossible: an event was lost, repeated or swapped.
"""

import os
import stat

RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4


class Impossible(AssertionError):
    pass


class Node:
    """A file, whatever its type, and however many names it has."""

    def __init__(self, ino, kind, mode, size=0, target=None):
        self.ino = ino
        self.kind = kind
        self.mode = mode
        self.size = size
        self.target = target

    def facts(self):
        facts = {"kind": self.kind}
        if self.kind == stat.S_IFLNK:
            facts["target"] = self.target
        else:
            facts["mode"] = oct(self.mode)
        if self.kind == stat.S_IFREG:
            facts["size"] = self.size
        return facts


def node_of(path):
    st = os.lstat(path)
    kind = stat.S_IFMT(st.st_mode)
    target = os.readlink(path) if kind == stat.S_IFLNK else None
    return Node(st.st_ino, kind, stat.S_IMODE(st.st_mode), st.st_size, target)


def walk(root):
    """The tree at @root as {path: Node}; names of one inode share a Node."""
    tree = {"": node_of(root)}
    by_ino = {}
    pending = [""]
    while pending:
        parent = pending.pop()
        with os.scandir(os.path.join(root, parent)) as entries:
            for entry in entries:
                path = os.path.join(parent, entry.name)
                node = by_ino.get(entry.inode())
                if node is None:
                    node = node_of(entry.path)
                    if node.kind != stat.S_IFDIR:
                        by_ino[node.ino] = node
                tree[path] = node
                if node.kind == stat.S_IFDIR:
                    pending.append(path)
    return tree


class Model:
    def __init__(self, base):
        """@base is the tree before the first event, as walk() gives it; taken over."""
        self.tree = {}
        self.children = {"": set()}
        self.by_ino = {}
        for path in sorted(base, key=lambda path: path.count("/")):
            self._add(path, base[path])

    # A directory's names are kept with it, so that renaming one need not look at the whole tree.

    def _add(self, path, node):
        self.tree[path] = node
        self.by_ino[node.ino] = node
        if path:
            self.children.setdefault(os.path.dirname(path), set()).add(path)
        if node.kind == stat.S_IFDIR:
            self.children.setdefault(path, set())

    def _remove(self, path):
        node = self.tree.pop(path)
        self.children[os.path.dirname(path)].discard(path)
        if node.kind == stat.S_IFDIR:
            self.children.pop(path, None)
        return node

    def _take(self, path):
        """Remove @path and everything below; returns [(path, node)], parents first."""
        below = [child for child in self.children.get(path, ())]
        taken = [(path, self.tree[path])]
        for child in below:
            taken += self._take(child)
        self._remove(path)
        return taken

    def _put(self, taken, old, new):
        for path, node in taken:
            self._add(new + path[len(old):], node)

    # ---- Events ----

    def _need(self, event, path):
        if path not in self.tree:
            raise Impossible(f"{path!r} does not exist: {event}")
        return self.tree[path]

    def _need_free(self, event, path):
        if path in self.tree:
            raise Impossible(f"{path!r} exists already: {event}")
        if os.path.dirname(path) not in self.children:
            raise Impossible(f"the directory of {path!r} does not exist: {event}")

    def _node(self, event):
        """What an event is about: found by inode number, because an open file may have lost its name."""
        if "ino" in event:
            return self.by_ino.get(event["ino"])
        return self.tree.get(event["path"])

    def _create(self, event, kind, target=None):
        self._need_free(event, event["path"])
        mode = stat.S_IMODE(event.get("mode", 0))
        self._add(event["path"], Node(event["ino"], kind, mode, 0, target))

    def _on_create(self, event):
        self._create(event, stat.S_IFREG)

    def _on_mkdir(self, event):
        self._create(event, stat.S_IFDIR)

    def _on_symlink(self, event):
        self._create(event, stat.S_IFLNK, event["target"])

    def _on_mknod(self, event):
        self._create(event, stat.S_IFMT(event["mode"]) or stat.S_IFREG)

    def _on_link(self, event):
        self._need_free(event, event["to"])
        node = self.by_ino.get(event["ino"])
        if not any(node is known for known in self.tree.values()):
            # A file without a name (O_TMPFILE) gets one; its number may have been another's before.
            node = Node(event["ino"], stat.S_IFREG, stat.S_IMODE(event.get("mode", 0)), event.get("size", 0))
        self._add(event["to"], node)

    def _on_unlink(self, event):
        if self._need(event, event["path"]).kind == stat.S_IFDIR:
            raise Impossible(f"unlink of a directory: {event}")
        self._remove(event["path"])

    def _on_rmdir(self, event):
        if self._need(event, event["path"]).kind != stat.S_IFDIR or self.children[event["path"]]:
            raise Impossible(f"rmdir of no directory, or a full one: {event}")
        self._remove(event["path"])

    def _on_rename(self, event):
        old, new, flags = event["path"], event["to"], event.get("flags", 0)
        self._need(event, old)
        if flags & RENAME_EXCHANGE:
            self._need(event, new)
            first, second = self._take(old), self._take(new)
            self._put(first, old, new)
            self._put(second, new, old)
            return
        if new in self.tree:
            if self.tree[new] is self.tree[old]:
                return
            if self.children.get(new):
                raise Impossible(f"rename over a full directory: {event}")
            self._remove(new)
        self._put(self._take(old), old, new)
        if flags & RENAME_WHITEOUT:
            self._add(old, Node(0, stat.S_IFCHR, 0))

    def _on_size(self, event):
        node = self._node(event)
        if node is not None and "size" in event:
            node.size = event["size"]

    def _on_chmod(self, event):
        node = self._node(event)
        if node is not None:
            node.mode = stat.S_IMODE(event["mode"])

    def _on_chown(self, event):
        node = self._node(event)
        if node is None or "mode" in event or node.kind != stat.S_IFREG:
            return
        # As Linux does it for every file that is no directory.
        node.mode &= ~stat.S_ISUID
        if node.mode & stat.S_IXGRP:
            node.mode &= ~stat.S_ISGID

    HANDLERS = {
        "create": _on_create, "mkdir": _on_mkdir, "symlink": _on_symlink, "mknod": _on_mknod, "link": _on_link,
        "unlink": _on_unlink, "rmdir": _on_rmdir, "rename": _on_rename, "chmod": _on_chmod, "chown": _on_chown,
        "write": _on_size, "truncate": _on_size, "fallocate": _on_size, "copy": _on_size, "close": _on_size,
        "utimens": None, "setxattr": None, "removexattr": None, "mounted": None, "unmounted": None, "gap": None,
        "manual": None,
    }

    def apply(self, event):
        handler = self.HANDLERS[event["op"]]
        try:
            if handler:
                handler(self, event)
        except Impossible:
            # A change that may or may not have been made says so; the tree then tells.
            if not event.get("uncertain"):
                raise


def differences(model, real):
    """What differs between two {path: Node}, as a list of sentences; empty when they are the same tree."""
    found = []
    for path in sorted(model.keys() | real.keys()):
        if path not in real:
            found.append(f"{path!r}: in the log, not on disk")
        elif path not in model:
            found.append(f"{path!r}: on disk, not in the log")
        elif model[path].facts() != real[path].facts():
            found.append(f"{path!r}: the log says {model[path].facts()}, the disk {real[path].facts()}")
    return found or link_differences(model, real)


def link_differences(model, real):
    """Whether the same names are one file in both."""
    pairs = {(id(model[path]), id(real[path])): path for path in model if model[path].kind != stat.S_IFDIR}
    ours, theirs = {}, {}
    for (our, their), path in pairs.items():
        ours.setdefault(our, []).append(path)
        theirs.setdefault(their, []).append(path)
    return [f"{paths!r}: hard links differ" for paths in [*ours.values(), *theirs.values()] if len(paths) > 1]


def replay(base, events):
    model = Model(base)
    for event in events:
        model.apply(event)
    return model.tree
