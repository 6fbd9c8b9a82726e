#include "fusefs/follow.h"

#include "base/clock.h"
#include "check.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { LIMIT = 4, MANY = 100, SHORT = 20, NAMELESS = 0, NO_THREAD = 1 << 30, MS_NS = 1000 * 1000, CROWD = 1000 };

/* A program that has asked and waits: a thread on one processor, which wakes up now and then. */
struct program {
	pthread_t thread;
	_Atomic pid_t tid;
	_Atomic int processor;
	_Atomic bool is_over;
};

static cpu_set_t all;
static int first, second; /* processors that we may run on */

static _Atomic int forbidden = -1; /* a processor that cpuset(7) has taken away */

static _Atomic bool is_late, is_held; /* who binds threads has to wait for a processor; and does */

static bool is_forbidden(const cpu_set_t *set)
{
	return forbidden >= 0 && CPU_COUNT(set) == 1 && CPU_ISSET(forbidden, set);
}

/* In place of the C library's. */
int sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *set)
{
	if (!is_forbidden(set))
		return syscall(SYS_sched_setaffinity, pid, size, set);
	errno = EINVAL;
	return -1;
}

int pthread_setaffinity_np(pthread_t thread, size_t size, const cpu_set_t *set)
{
	int (*next)(pthread_t, size_t, const cpu_set_t *) = dlsym(RTLD_NEXT, "pthread_setaffinity_np");

	while (is_late)
		is_held = true;
	return is_forbidden(set) ? EINVAL : next(thread, size, set);
}

static void find_processors(void)
{
	check(sched_getaffinity(0, sizeof(all), &all) == 0);
	if (CPU_COUNT(&all) < 2)
		skip();
	for (first = 0; !CPU_ISSET(first, &all);)
		first++;
	for (second = first + 1; !CPU_ISSET(second, &all);)
		second++;
}

static void doze(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 1000 * 1000 }, NULL);
}

static cpu_set_t only(int processor)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(processor, &set);
	return set;
}

static void bind_to(pthread_t thread, int processor)
{
	const cpu_set_t set = only(processor);

	check(pthread_setaffinity_np(thread, sizeof(set), &set) == 0);
}

/* It never joins: where it may run, the threads may when nobody is followed. */
static void set_first_thread(cpu_set_t set)
{
	check(sched_setaffinity(getpid(), sizeof(set), &set) == 0);
}

static void *run(void *argument)
{
	struct program *program = argument;

	program->tid = gettid();
	while (!program->is_over) {
		program->processor = sched_getcpu();
		doze();
	}
	return NULL;
}

static void start(struct program *program, int processor)
{
	*program = (struct program){ 0 };
	check(pthread_create(&program->thread, NULL, run, program) == 0);
	while (program->tid == 0)
		doze();
	bind_to(program->thread, processor);
	while (program->processor != processor)
		doze();
}

static void end(struct program *program)
{
	program->is_over = true;
	pthread_join(program->thread, NULL);
}

static struct follow *begin(void)
{
	struct follow *follow;

	find_processors();
	check(follow_create(LIMIT, &follow) == 0);
	follow_join(follow);
	return follow;
}

static void finish(struct follow *follow)
{
	check(sched_setaffinity(0, sizeof(all), &all) == 0);
	follow_leave(follow);
	follow_destroy(follow);
}

static bool answered(struct follow *follow, pid_t tid)
{
	bool is_to_go = follow_answered(follow, tid);

	if (is_to_go)
		follow_go_along(follow);
	return is_to_go;
}

static void ask(struct follow *follow, pid_t tid, int times)
{
	while (times-- > 0)
		answered(follow, tid);
}

static bool is_bound(pthread_t thread, int processor)
{
	cpu_set_t set;

	check(pthread_getaffinity_np(thread, sizeof(set), &set) == 0);
	return CPU_COUNT(&set) == 1 && CPU_ISSET(processor, &set);
}

static bool is_free(pthread_t thread)
{
	cpu_set_t set;

	check(pthread_getaffinity_np(thread, sizeof(set), &set) == 0);
	return CPU_EQUAL(&set, &all);
}

/* Fast enough, unless this thread has to wait for a processor meanwhile: then once more. */
static void ask_until_bound(struct follow *follow, const struct program *program, int processor)
{
	for (int i = 0; i < 1000 && !is_bound(pthread_self(), processor); i++)
		ask(follow, program->tid, MANY);
	check(is_bound(pthread_self(), processor));
}

struct other {
	struct follow *follow;
	_Atomic bool may_join;
	_Atomic bool has_joined;
	_Atomic bool is_over;
};

static void *answer(void *argument)
{
	struct other *other = argument;

	while (!other->may_join)
		doze();
	follow_join(other->follow);
	other->has_joined = true;
	while (!other->is_over)
		doze();
	follow_leave(other->follow);
	return NULL;
}

static void all_threads_go_to_who_asks_many_times(void)
{
	struct follow *follow = begin();
	struct other other = { .follow = follow, .may_join = true };
	struct program program;
	pthread_t thread;

	check(pthread_create(&thread, NULL, answer, &other) == 0);
	while (!other.has_joined)
		doze();
	start(&program, second);
	ask_until_bound(follow, &program, second);
	check(is_bound(thread, second));
	end(&program);
	start(&program, first);
	ask_until_bound(follow, &program, first);
	check(is_bound(thread, first));
	end(&program);
	other.is_over = true;
	pthread_join(thread, NULL);
	finish(follow);
}

static void who_joins_late_goes_where_the_others_are(void)
{
	struct follow *follow = begin();
	struct other other = { .follow = follow };
	struct program program;
	pthread_t thread;

	start(&program, second);
	ask_until_bound(follow, &program, second);
	check(pthread_create(&thread, NULL, answer, &other) == 0);
	check(pthread_setaffinity_np(thread, sizeof(all), &all) == 0);
	other.may_join = true;
	while (!other.has_joined)
		doze();
	check(is_bound(thread, second));
	end(&program);
	other.is_over = true;
	pthread_join(thread, NULL);
	finish(follow);
}

/* Some may have come or gone since they were bound. */
static void who_is_let_go_may_run_where_the_first_thread_may(void)
{
	struct follow *follow = begin();
	struct program program;

	start(&program, second);
	ask_until_bound(follow, &program, second);
	set_first_thread(only(first));
	ask(follow, NAMELESS, 1);
	check(!follow_is_bound(follow) && is_bound(pthread_self(), first));
	set_first_thread(all);
	ask_until_bound(follow, &program, second);
	ask(follow, NAMELESS, 1);
	check(is_free(pthread_self()));
	end(&program);
	finish(follow);
}

static void who_joins_stays_where_it_is_while_nobody_is_followed(void)
{
	struct follow *follow = begin();

	follow_leave(follow);
	bind_to(pthread_self(), first);
	follow_join(follow);
	check(is_bound(pthread_self(), first));
	finish(follow);
}

static void nobody_is_followed_who_asks_a_few_times(void)
{
	struct follow *follow = begin();
	struct program program;

	start(&program, second);
	ask(follow, program.tid, 5);
	check(is_free(pthread_self()));
	end(&program);
	finish(follow);
}

static void threads_are_let_go_when_another_asks(void)
{
	struct follow *follow = begin();
	struct program one, other;

	start(&one, first);
	start(&other, second);
	ask_until_bound(follow, &one, first);
	answered(follow, other.tid);
	check(is_free(pthread_self()));
	ask_until_bound(follow, &one, first);
	answered(follow, NAMELESS);
	check(is_free(pthread_self()));
	/* Nameless ones may be many, and are nobody to follow. */
	ask(follow, NAMELESS, MANY);
	check(is_free(pthread_self()));
	end(&one);
	end(&other);
	finish(follow);
}

static void who_is_moved_is_followed(void)
{
	struct follow *follow = begin();
	struct program program;

	start(&program, first);
	ask_until_bound(follow, &program, first);
	bind_to(program.thread, second);
	for (int i = 0; i < 1000 && !is_bound(pthread_self(), second); i++) {
		doze();
		ask(follow, program.tid, MANY);
	}
	check(is_bound(pthread_self(), second));
	end(&program);
	finish(follow);
}

static void *rest(void *argument)
{
	follow_rest(argument);
	return NULL;
}

static void rest_elsewhere(struct follow *follow)
{
	pthread_t thread;

	check(pthread_create(&thread, NULL, rest, follow) == 0);
	pthread_join(thread, NULL);
}

static void threads_are_let_go_when_nobody_was_answered(void)
{
	struct follow *follow = begin();
	struct program program;

	start(&program, second);
	check(!follow_is_bound(follow));
	ask_until_bound(follow, &program, second);
	ask(follow, program.tid, 1);
	rest_elsewhere(follow);
	check(is_bound(pthread_self(), second) && follow_is_bound(follow));
	ask(follow, program.tid, 1);
	ask_until_bound(follow, &program, second);
	rest_elsewhere(follow);
	check(is_bound(pthread_self(), second) && follow_is_bound(follow));
	rest_elsewhere(follow);
	check(is_free(pthread_self()) && !follow_is_bound(follow));
	ask_until_bound(follow, &program, second);
	end(&program);
	finish(follow);
}

/* Binding costs more than such short rows are worth. */
static void who_takes_turns_is_not_followed_for_long(void)
{
	struct follow *follow = begin();
	struct program one, other;

	start(&one, first);
	start(&other, second);
	for (int i = 0; i < 10; i++) {
		ask(follow, one.tid, SHORT);
		if (i > 0)
			check(is_free(pthread_self()));
		ask(follow, other.tid, SHORT);
		if (i > 0)
			check(is_free(pthread_self()));
	}
	/* A long row is worth it still. */
	ask_until_bound(follow, &one, first);
	ask(follow, one.tid, 10 * MANY);
	doze();
	ask(follow, one.tid, 1);
	check(is_bound(pthread_self(), first));
	answered(follow, other.tid);
	ask(follow, other.tid, SHORT);
	check(is_bound(pthread_self(), second));
	end(&one);
	end(&other);
	finish(follow);
}

static void who_asks_slowly_is_not_followed(void)
{
	struct follow *follow = begin();
	struct program program;

	start(&program, second);
	for (int i = 0; i < MANY; i++) {
		doze();
		check(!answered(follow, program.tid));
	}
	check(is_free(pthread_self()));
	ask_until_bound(follow, &program, second);
	for (int i = 0; i < MANY; i++) {
		doze();
		(void)answered(follow, program.tid);
	}
	check(is_free(pthread_self()));
	end(&program);
	finish(follow);
}

/* Binding has to be undone, for which somebody has to know of it. */
static void binding_and_letting_go_are_told_of(void)
{
	struct follow *follow = begin();
	struct program program;
	int told = 0;

	start(&program, second);
	for (int i = 0; i < 10; i++) {
		for (int j = 0; j < MANY; j++) {
			bool was_bound = follow_is_bound(follow);
			bool is_told = answered(follow, program.tid);

			check(is_told == (was_bound != follow_is_bound(follow)));
			told += is_told;
		}
		doze();
	}
	check(told >= 1 && follow_is_bound(follow));
	end(&program);
	finish(follow);
}

/* It may be long until the processor has time for it, so others are told before. */
static void who_has_answered_goes_along_last(void)
{
	struct follow *follow = begin();
	struct other other = { .follow = follow, .may_join = true };
	struct program program;
	pthread_t thread;

	check(pthread_create(&thread, NULL, answer, &other) == 0);
	while (!other.has_joined)
		doze();
	start(&program, second);
	while (!follow_answered(follow, program.tid))
		;
	check(follow_is_bound(follow) && is_bound(thread, second) && is_free(pthread_self()));
	follow_go_along(follow);
	check(is_bound(pthread_self(), second));
	check(follow_answered(follow, NAMELESS));
	check(!follow_is_bound(follow) && is_free(thread) && is_bound(pthread_self(), second));
	follow_go_along(follow);
	check(is_free(pthread_self()));
	end(&program);
	other.is_over = true;
	pthread_join(thread, NULL);
	finish(follow);
}

struct question {
	struct follow *follow;
	pid_t tid;
	int times;
	_Atomic bool has_joined, may_ask, is_answered;
};

static void *answer_question(void *argument)
{
	struct question *question = argument;

	follow_join(question->follow);
	question->has_joined = true;
	while (!question->may_ask)
		doze();
	while (question->times-- > 0 && !follow_answered(question->follow, question->tid))
		;
	question->is_answered = true;
	follow_leave(question->follow);
	return NULL;
}

/* Who binds them may have lost its processor to a program. */
static void nobody_waits_for_who_sends_the_others(void)
{
	struct follow *follow = begin();
	struct program one, other;
	struct question questions[2] = { { .follow = follow, .times = 1000 * MANY }, { .follow = follow, .times = 1 } };
	pthread_t threads[2];
	bool is_answered;

	start(&one, second);
	start(&other, first);
	questions[0].tid = one.tid;
	questions[1].tid = other.tid;
	for (int i = 0; i < 2; i++) {
		check(pthread_create(&threads[i], NULL, answer_question, &questions[i]) == 0);
		while (!questions[i].has_joined)
			doze();
	}
	is_late = true;
	questions[0].may_ask = true;
	while (!is_held)
		doze();
	questions[1].may_ask = true;
	for (int i = 0; i < 1000 && !questions[1].is_answered; i++)
		doze();
	is_answered = questions[1].is_answered;
	is_late = false;
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	check(is_answered);
	rest_elsewhere(follow);
	rest_elsewhere(follow);
	check(!follow_is_bound(follow) && is_free(pthread_self()));
	end(&one);
	end(&other);
	finish(follow);
}

static void who_cannot_be_found_is_not_followed(void)
{
	struct follow *follow = begin();

	ask(follow, NO_THREAD, MANY);
	check(is_free(pthread_self()));
	finish(follow);
}

/* Next to it the threads would get no time, however long it computes. */
static void who_is_in_real_time_is_not_followed(void)
{
	const struct sched_param lowest = { .sched_priority = 1 }, none = { 0 };
	struct follow *follow = begin();
	struct program program;
	bool is_permitted;

	start(&program, second);
	is_permitted = pthread_setschedparam(program.thread, SCHED_FIFO, &lowest) == 0;
	for (int i = 0; i < 10 && is_permitted; i++) {
		ask(follow, program.tid, MANY);
		check(!follow_is_bound(follow));
	}
	check(pthread_setschedparam(program.thread, SCHED_OTHER, &none) == 0);
	ask_until_bound(follow, &program, second);
	is_permitted = is_permitted && pthread_setschedparam(program.thread, SCHED_RR, &lowest) == 0;
	for (int i = 0; i < 1000 && is_permitted && follow_is_bound(follow); i++) {
		doze();
		ask(follow, program.tid, MANY);
	}
	check(!is_permitted || is_free(pthread_self()));
	end(&program);
	finish(follow);
	if (!is_permitted)
		skip();
}

static void *pass(void *gate)
{
	pthread_mutex_lock(gate);
	pthread_mutex_unlock(gate);
	return NULL;
}

/* The fastest row up to a look at where the program is. */
static int64_t fastest_row_ns(struct follow *follow, pid_t tid)
{
	int64_t fastest_ns = INT64_MAX;

	for (int i = 0; i < 200; i++) {
		int64_t start_ns = clock_now_ns(), took_ns;

		while (!follow_is_bound(follow) && clock_now_ns() - start_ns < MS_NS)
			ask(follow, tid, 1);
		took_ns = clock_now_ns() - start_ns;
		if (took_ns < fastest_ns)
			fastest_ns = took_ns;
		ask(follow, NAMELESS, 1);
	}
	return fastest_ns;
}

static void who_has_many_threads_costs_no_more(void)
{
	struct follow *follow = begin();
	struct program program;
	pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
	pthread_t threads[CROWD];
	pthread_attr_t small;
	int64_t alone_ns, among_many_ns;

	start(&program, second);
	alone_ns = fastest_row_ns(follow, program.tid);
	pthread_mutex_lock(&gate);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 64 * 1024);
	for (int i = 0; i < CROWD; i++)
		check(pthread_create(&threads[i], &small, pass, &gate) == 0);
	pthread_attr_destroy(&small);
	among_many_ns = fastest_row_ns(follow, program.tid);
	pthread_mutex_unlock(&gate);
	for (int i = 0; i < CROWD; i++)
		pthread_join(threads[i], NULL);
	end(&program);
	finish(follow);
	check(among_many_ns < 2 * alone_ns);
}

static void who_is_where_we_may_not_run_is_not_followed(void)
{
	struct follow *follow = begin();
	struct other other = { .follow = follow, .may_join = true };
	struct program program;
	pthread_t thread;

	check(pthread_create(&thread, NULL, answer, &other) == 0);
	while (!other.has_joined)
		doze();
	start(&program, second);
	forbidden = second;
	for (int i = 0; i < 10; i++) {
		ask(follow, program.tid, MANY);
		check(is_free(pthread_self()) && is_free(thread));
		check(!follow_is_bound(follow));
	}
	forbidden = -1;
	ask_until_bound(follow, &program, second);
	check(is_bound(thread, second));
	end(&program);
	other.is_over = true;
	pthread_join(thread, NULL);
	finish(follow);
}

static void with_one_processor_there_is_nothing_to_choose(void)
{
	struct follow *follow;

	find_processors();
	set_first_thread(only(first));
	check(follow_create(LIMIT, &follow) == -EOPNOTSUPP);
	set_first_thread(all);
	follow_join(NULL);
	check(!follow_answered(NULL, 1) && !follow_is_bound(NULL));
	follow_go_along(NULL);
	follow_rest(NULL);
	follow_leave(NULL);
	follow_destroy(NULL);
}

/* Not on the first thread. */
static void *test_all(void *failures)
{
	const struct CMUnitTest tests[] = {
		unit(all_threads_go_to_who_asks_many_times),
		unit(who_joins_late_goes_where_the_others_are),
		unit(who_is_let_go_may_run_where_the_first_thread_may),
		unit(who_joins_stays_where_it_is_while_nobody_is_followed),
		unit(nobody_is_followed_who_asks_a_few_times),
		unit(threads_are_let_go_when_another_asks),
		unit(who_is_moved_is_followed),
		unit(threads_are_let_go_when_nobody_was_answered),
		unit(who_takes_turns_is_not_followed_for_long),
		unit(who_asks_slowly_is_not_followed),
		unit(binding_and_letting_go_are_told_of),
		unit(who_has_answered_goes_along_last),
		unit(nobody_waits_for_who_sends_the_others),
		unit(who_cannot_be_found_is_not_followed),
		unit(who_is_in_real_time_is_not_followed),
		unit(who_has_many_threads_costs_no_more),
		unit(who_is_where_we_may_not_run_is_not_followed),
		unit(with_one_processor_there_is_nothing_to_choose),
	};

	*(int *)failures = cmocka_run_group_tests(tests, NULL, NULL);
	return NULL;
}

int main(void)
{
	pthread_t thread;
	int failures = 1;

	if (pthread_create(&thread, NULL, test_all, &failures) == 0)
		pthread_join(thread, NULL);
	return failures;
}
