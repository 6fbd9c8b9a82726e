#include "serve/hub.h"

#include "eventlog/eventlog.h"
#include "serve/feed.h"
#include "serve/helper.h"
#include "serve/subscriber.h"

#include <errno.h>

static const uint64_t NS_PER_MS = 1000000;

/* ---- Turns ---- */

static void enqueue(struct hub_queue *queue, struct subscriber *subscriber)
{
	TAILQ_INSERT_TAIL(&queue->list, subscriber, turn_link);
	queue->count++;
	subscriber->queue = queue;
}

void hub_stop_waiting(struct hub *hub, struct subscriber *subscriber)
{
	struct hub_queue *queue = subscriber->queue;

	if (!queue)
		return;
	TAILQ_REMOVE(&queue->list, subscriber, turn_link);
	queue->count--;
	subscriber->queue = NULL;
}

static struct subscriber *dequeue(struct hub *hub, struct hub_queue *queue)
{
	struct subscriber *subscriber = TAILQ_FIRST(&queue->list);

	if (subscriber)
		hub_stop_waiting(hub, subscriber);
	return subscriber;
}

void hub_wait_at_head(struct hub *hub, struct subscriber *subscriber)
{
	enqueue(&hub->at_head, subscriber);
	if (!hub->advance.is_running)
		loop_timer_start(&hub->advance, 0);
}

void hub_wait_behind(struct hub *hub, struct subscriber *subscriber)
{
	enqueue(&hub->behind, subscriber);
	loop_timer_stop(&hub->rest);
	if (!hub->replay.is_running)
		loop_timer_start(&hub->replay, 0);
}

/*
 * Everybody at the head has more to send, or learns of @error. Who waits again is not asked
 * again.
 */
static void wake_all_at_head(struct hub *hub, int error)
{
	for (unsigned n = hub->at_head.count; n > 0; n--) {
		struct subscriber *subscriber = dequeue(hub, &hub->at_head);

		if (!subscriber)
			return;
		if (error < 0)
			subscriber_fail(subscriber, error, "The log cannot be read.");
		else
			subscriber_advance(subscriber);
	}
}

/* Somebody may have moved the window while others waited at its end. */
static bool all_have_the_window(const struct hub *hub)
{
	const struct subscriber *subscriber;

	TAILQ_FOREACH(subscriber, &hub->at_head.list, turn_link)
	if (subscriber->next_seq < feed_end(hub->feed))
		return false;
	return true;
}

/*
 * Read what is new and send it. Called on news, and again once what was sent has left: when there
 * is nothing more then, the log is asked to wake us. Nobody waiting means nobody asks: the news
 * descriptor stays quiet.
 */
static void advance(void *userdata)
{
	struct hub *hub = userdata;
	int r;

	if (hub->at_head.count == 0)
		return;
	r = feed_advance(hub->feed);
	if (r != 0 || !all_have_the_window(hub))
		wake_all_at_head(hub, r);
	else if (!feed_arm(hub->feed))
		loop_timer_start(&hub->advance, 0);
}

static void on_news(void *userdata)
{
	struct hub *hub = userdata;
	loop_timer_stop(&hub->advance);
	advance(hub);
}

static bool take_credit(struct hub *hub)
{
	const uint64_t period_ns = HUB_DIRECT_US * 1000;
	uint64_t more = (loop_now_ns() - hub->credit_ns) / period_ns;

	hub->credit = hub->credit + more < HUB_DIRECT_BURST ? hub->credit + more : HUB_DIRECT_BURST;
	hub->credit_ns += more * period_ns;
	if (hub->credit == 0)
		return false;
	hub->credit--;
	return true;
}

static bool send_now_to_all_at_head(struct hub *hub)
{
	struct subscriber *subscriber;
	bool is_done = true;

	TAILQ_FOREACH(subscriber, &hub->at_head.list, turn_link)
	is_done &= subscriber_send_now(subscriber);
	return is_done;
}

static bool deliver(struct hub *hub)
{
	int r;

	if (hub->at_head.count == 0 || hub->at_head.count > HUB_DIRECT_MAX || hub->is_ending || !take_credit(hub))
		return false;
	r = feed_advance(hub->feed);
	if (r <= 0)
		return false;
	if (!send_now_to_all_at_head(hub)) {
		/* The loop's thread goes on with what this starts. */
		wake_all_at_head(hub, r);
		return false;
	}
	return feed_arm(hub->feed);
}

bool hub_deliver(struct hub *hub)
{
	bool is_done;

	if (!loop_try_enter(hub->loop))
		return false;
	is_done = deliver(hub);
	loop_leave(hub->loop);
	return is_done;
}

static void replay(void *userdata)
{
	struct hub *hub = userdata;

	for (unsigned n = 0; n < HUB_REPLAYS_A_TURN && hub->behind.count > 0; n++) {
		struct subscriber *subscriber = dequeue(hub, &hub->behind);
		struct lines *lines = NULL;
		int r = feed_replay(hub->feed, subscriber->next_seq, &lines);

		subscriber_replay(subscriber, r, lines);
	}
	if (hub->behind.count > 0)
		loop_timer_start(&hub->replay, 0);
	else
		loop_timer_start(&hub->rest, HUB_REST_MS * NS_PER_MS);
}

static void rest(void *userdata)
{
	struct hub *hub = userdata;

	feed_rest(hub->feed);
}

/* ---- Deadlines ---- */

static void set_deadline_timer(struct hub *hub)
{
	struct subscriber *first = TAILQ_FIRST(&hub->deadlines);
	uint64_t now = loop_now_ns();

	if (!first)
		loop_timer_stop(&hub->deadline);
	else
		loop_timer_start(&hub->deadline,
				 first->deadline_ns > now ? first->deadline_ns - now : 0);
}

void hub_set_deadline(struct hub *hub, struct subscriber *subscriber)
{
	if (subscriber->deadline_ns)
		return;
	subscriber->deadline_ns = loop_now_ns() + hub->patience_ms * NS_PER_MS;
	TAILQ_INSERT_TAIL(&hub->deadlines, subscriber, deadline_link);
	if (!hub->deadline.is_running)
		set_deadline_timer(hub);
}

void hub_clear_deadline(struct hub *hub, struct subscriber *subscriber)
{
	if (!subscriber->deadline_ns)
		return;
	subscriber->deadline_ns = 0;
	TAILQ_REMOVE(&hub->deadlines, subscriber, deadline_link);
	if (TAILQ_EMPTY(&hub->deadlines))
		loop_timer_stop(&hub->deadline);
}

static void expire(void *userdata)
{
	struct hub *hub = userdata;
	struct subscriber *first = TAILQ_FIRST(&hub->deadlines);

	if (first && first->deadline_ns <= loop_now_ns()) {
		hub_clear_deadline(hub, first);
		subscriber_expire(first);
	}
	set_deadline_timer(hub);
}

/* ---- Coming and going ---- */

int hub_init(struct hub *hub, struct eventlog *log, const struct server_hooks *hooks)
{
	int r;

	*hub = (struct hub){ .log = log, .hooks = hooks, .patience_ms = HUB_PATIENCE_MS };
	TAILQ_INIT(&hub->all);
	TAILQ_INIT(&hub->at_head.list);
	TAILQ_INIT(&hub->behind.list);
	TAILQ_INIT(&hub->deadlines);

	r = loop_create(&hub->loop);
	if (r < 0)
		return r;
	loop_timer_init(&hub->advance, hub->loop, advance, hub);
	loop_timer_init(&hub->replay, hub->loop, replay, hub);
	loop_timer_init(&hub->rest, hub->loop, rest, hub);
	loop_timer_init(&hub->deadline, hub->loop, expire, hub);
	r = feed_create(log, &hub->feed);
	if (r < 0)
		return r;
	r = helper_create(hub->loop, &hub->helper);
	if (r < 0)
		return r;
	return loop_watch(hub->loop, eventlog_news_fd(log), on_news, hub);
}

void hub_finish(struct hub *hub)
{
	helper_destroy(hub->helper);
	feed_destroy(hub->feed);
	loop_destroy(hub->loop);
}

void hub_add(struct hub *hub, struct subscriber *subscriber)
{
	TAILQ_INSERT_TAIL(&hub->all, subscriber, link);
	hub->count++;
	subscriber->id = ++hub->last_id;
}

void hub_remove(struct hub *hub, struct subscriber *subscriber)
{
	hub_stop_waiting(hub, subscriber);
	hub_clear_deadline(hub, subscriber);
	TAILQ_REMOVE(&hub->all, subscriber, link);
	if (--hub->count > 0)
		return;
	feed_forget(hub->feed);
	if (hub->is_ending)
		loop_stop(hub->loop);
}

/* ---- The end ---- */

void hub_end(struct hub *hub, const char *reason)
{
	struct subscriber *subscriber;

	hub->is_ending = true;
	hub->end_seq = eventlog_next_seq(hub->log);
	hub->reason = reason;
	if (hub->count == 0)
		loop_stop(hub->loop);
	/* A subscriber that closes stays in the list until the loop has called back. */
	TAILQ_FOREACH(subscriber, &hub->all, link)
	subscriber_end(subscriber);
}

void hub_cut(struct hub *hub)
{
	struct subscriber *subscriber;

	TAILQ_FOREACH(subscriber, &hub->all, link)
	subscriber_cut(subscriber);
}
