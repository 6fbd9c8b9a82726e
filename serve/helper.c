#include "serve/helper.h"

#include "base/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

STAILQ_HEAD(job_list, helper_job);

struct helper {
	int done_fd; /* eventfd: something is in @done */
	pthread_t thread;
	bool has_thread;

	pthread_mutex_t mutex; /* guards what follows */
	pthread_cond_t wake;   /* there is something in @submitted, or it ends */
	struct job_list submitted;
	struct job_list done;
	bool is_ending;
};

static struct helper_job *take_first(struct job_list *list)
{
	struct helper_job *job = STAILQ_FIRST(list);

	if (job)
		STAILQ_REMOVE_HEAD(list, link);
	return job;
}

/* Returns NULL when the helper ends. */
static struct helper_job *wait_for_job(struct helper *helper)
{
	struct helper_job *job = NULL;

	pthread_mutex_lock(&helper->mutex);
	while (!helper->is_ending && STAILQ_EMPTY(&helper->submitted))
		pthread_cond_wait(&helper->wake, &helper->mutex);
	if (!helper->is_ending)
		job = take_first(&helper->submitted);
	pthread_mutex_unlock(&helper->mutex);
	return job;
}

static void hand_back(struct helper *helper, struct helper_job *job)
{
	pthread_mutex_lock(&helper->mutex);
	STAILQ_INSERT_TAIL(&helper->done, job, link);
	pthread_mutex_unlock(&helper->mutex);
	eventfd_write(helper->done_fd, 1);
}

static void *run(void *data)
{
	struct helper *helper = data;
	struct helper_job *job;

	while ((job = wait_for_job(helper))) {
		job->run(job);
		hand_back(helper, job);
	}
	return NULL;
}

/* Calls @done of all jobs in @list, without the mutex. */
static void finish_jobs(struct helper *helper, struct job_list *list)
{
	struct job_list jobs = STAILQ_HEAD_INITIALIZER(jobs);
	struct helper_job *job;

	pthread_mutex_lock(&helper->mutex);
	STAILQ_CONCAT(&jobs, list);
	pthread_mutex_unlock(&helper->mutex);
	while ((job = take_first(&jobs)))
		job->done(job);
}

static void on_done(void *userdata)
{
	struct helper *helper = userdata;
	finish_jobs(helper, &helper->done);
}

int helper_create(struct loop *loop, struct helper **out)
{
	struct helper *helper = calloc(1, sizeof(*helper));
	int r;

	if (!helper)
		return -ENOMEM;
	pthread_mutex_init(&helper->mutex, NULL);
	pthread_cond_init(&helper->wake, NULL);
	STAILQ_INIT(&helper->submitted);
	STAILQ_INIT(&helper->done);
	helper->done_fd = eventfd(0, EFD_CLOEXEC);
	r = helper->done_fd < 0 ? -errno : loop_watch(loop, helper->done_fd, on_done, helper);
	if (r < 0) {
		helper_destroy(helper);
		return r;
	}
	*out = helper;
	return 0;
}

int helper_start(struct helper *helper)
{
	int r = pthread_create(&helper->thread, NULL, run, helper);

	if (r != 0)
		return -r;
	helper->has_thread = true;
	return 0;
}

void helper_submit(struct helper *helper, struct helper_job *job)
{
	pthread_mutex_lock(&helper->mutex);
	STAILQ_INSERT_TAIL(&helper->submitted, job, link);
	pthread_cond_signal(&helper->wake);
	pthread_mutex_unlock(&helper->mutex);
}

static void end_thread(struct helper *helper)
{
	if (!helper->has_thread)
		return;
	pthread_mutex_lock(&helper->mutex);
	helper->is_ending = true;
	pthread_cond_signal(&helper->wake);
	pthread_mutex_unlock(&helper->mutex);
	pthread_join(helper->thread, NULL);
}

void helper_destroy(struct helper *helper)
{
	if (!helper)
		return;
	end_thread(helper);
	finish_jobs(helper, &helper->done);
	finish_jobs(helper, &helper->submitted);
	if (helper->done_fd >= 0)
		close(helper->done_fd);
	pthread_cond_destroy(&helper->wake);
	pthread_mutex_destroy(&helper->mutex);
	free(helper);
}
