/*
 * Status: what the daemon is doing, as one JSON line.
 */
#pragma once

struct bytes;
struct hub;

/** Append the answer to a status request, newline included. */
void status_write(struct bytes *out, struct hub *hub);
