/*
 * Patience: how long a mount that begins waits for one that ends.
 *
 * umount(8) returns when nobody can reach the tree any more; the daemon then still has to bring its log to rest.
 */
#pragma once

enum {
	PATIENCE_MS = 3000,         /* where it is not known whether it ends */
	PATIENCE_ENDING_MS = 60000, /* a full journal on a slow disk */
	PATIENCE_PAUSE_MS = 50,
};
