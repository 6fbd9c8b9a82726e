/*
 * Supervisor: the process that mounts, keeps what outlives a worker, and replaces workers that die.
 *
 * It holds /dev/fuse, the tables and the listening socket, and serves nothing itself, so there is little in it that could crash.
 * Its states and what moves it between them are drawn in supervisor.c.
 */
#pragma once

#include "daemon/exit.h"

struct handover;
struct launch;
struct setup;

/**
 * Mount what @setup says and see to it until the end. @handover: what the program before left, when this one was put in its
 * place; else NULL. Returns how mount.hrfs ends, which has been said on stderr unless it is STATUS_OK.
 */
enum exit_status supervisor_run(struct setup *setup, struct launch *launch, const struct handover *handover);
