/* Notify: telling the service manager, as sd_notify(3) does. */
#pragma once

/** Send @state ("READY=1") to $NOTIFY_SOCKET. Without one, or when nobody listens, nothing happens. */
void notify_send(const char *state);

/** Say that a restart begins. READY=1 is its end. */
void notify_reloading(void);
