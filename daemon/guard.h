/*
 * Guard: a copy of the supervisor that waits while another program is put in its place.
 *
 * A program that says that it has failed is replaced in its own process, by handover_return(). One that crashes or hangs there can do no
 * more; the copy, which holds all descriptors, then is the supervisor. It has another process id.
 */
#pragma once

/**
 * Fork. In the caller it returns 0 and a descriptor in *@out_fd, which the program that follows gets, or a negative errno. The copy only
 * returns when it has to take over, with 1: the process it is a copy of has died. It ends by itself after guard_dismiss().
 */
int guard_start(int *out_fd);

/** All is well. Takes over @fd; -1 is nothing. */
void guard_dismiss(int fd);
