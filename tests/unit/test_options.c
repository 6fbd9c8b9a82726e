#include "daemon/options.h"

#include "base/scope.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <string.h>
#include <sys/mount.h>

enum { ARGUMENTS_MAX = 16 };

/* Parse the words of @line, which are separated by blanks. */
static int parse(struct options *options, const char *line)
{
	scoped(freep) char *words = NULL;
	char *argv[ARGUMENTS_MAX];
	int argc = 0;

	check(asprintf(&words, "mount.hrfs %s", line) > 0);
	for (char *word = strtok(words, " "); word; word = strtok(NULL, " "))
		argv[argc++] = word;
	argv[argc] = NULL;
	return options_parse(argc, argv, options);
}

static void is_refused(const char *line, const char *word)
{
	scoped(options_finish) struct options options = { 0 };

	check(parse(&options, line) == -EINVAL);
	check(strstr(options.complaint, word));
	check(!strchr(options.complaint, '\n'));
}

static void two_places_are_source_and_mount_point(void)
{
	scoped(options_finish) struct options options = { 0 };

	check(parse(&options, "/src /mnt") == OPTIONS_MOUNT);
	check(strcmp(options.source, "/src") == 0);
	check(strcmp(options.mount_point, "/mnt") == 0);
	check(strcmp(options.text, "") == 0);
	check(!options.is_foreground && !options.allow_other && options.mount_flags == 0);
}

static void one_place_is_mounted_over(void)
{
	scoped(options_finish) struct options options = { 0 };

	check(parse(&options, "/src") == OPTIONS_MOUNT);
	check(strcmp(options.source, "/src") == 0);
	check(!options.mount_point);
}

static void letters_may_stand_behind_the_places_as_mount_8_puts_them(void)
{
	scoped(options_finish) struct options options = { 0 };

	check(parse(&options, "/src /mnt -n -v -s -f -t fuse.hrfs -N /proc/1/ns/mnt -o ro") == OPTIONS_MOUNT);
	check(options.is_verbose && options.single_thread && options.is_foreground && !options.debug);
	check(strcmp(options.mount_namespace, "/proc/1/ns/mnt") == 0);
	check(options.mount_flags == MS_RDONLY);
}

static void debug_stays_in_the_foreground(void)
{
	scoped(options_finish) struct options options = { 0 };

	check(parse(&options, "-d /src") == OPTIONS_MOUNT);
	check(options.debug && options.is_foreground);
}

static void help_and_version_need_no_place(void)
{
	static const struct {
		const char *line;
		int answer;
	} rows[] = {
		{ "-h", OPTIONS_HELP },
		{ "--help", OPTIONS_HELP },
		{ "-V", OPTIONS_VERSION },
		{ "--version", OPTIONS_VERSION },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		scoped(options_finish) struct options options = { 0 };

		check(parse(&options, rows[i].line) == rows[i].answer);
	}
}

static void the_last_of_two_opposites_holds(void)
{
	scoped(options_finish) struct options options = { 0 };

	check(parse(&options, "/src -o ro,nosuid,nodev,noexec,noatime,sync,dirsync -o rw,suid,exec,atime,async") ==
	      OPTIONS_MOUNT);
	check(options.mount_flags == (MS_NODEV | MS_DIRSYNC));
	check(options.wants_suid && !options.wants_dev);
}

static void what_is_for_mount_8_changes_nothing(void)
{
	scoped(options_finish) struct options options = { 0 };

	check(parse(&options, "/src -o defaults,user,user=joe,users,nouser,owner,group,auto,noauto,_netdev,nofail,"
			      "comment=a,x-systemd.automount,x-a=b") == OPTIONS_MOUNT);
	check(options.mount_flags == 0);
}

static void values_are_read(void)
{
	scoped(options_finish) struct options options = { 0 };

	check(parse(&options, "/src -o state=/s,socket=/k,subscribers=dev,fsname=n,subtype=t,max_read=65536,"
			      "journal_size=16M,log-quota=1G,on-log-full=gap,transport=io_uring,scheduling=normal,passthrough=off,durability=always,scan=full,"
			      "allow_other,default_permissions,auto_unmount") == OPTIONS_MOUNT);
	check(strcmp(options.state, "/s") == 0 && strcmp(options.socket, "/k") == 0);
	check(strcmp(options.subscribers, "dev") == 0);
	check(strcmp(options.fsname, "n") == 0 && strcmp(options.subtype, "t") == 0);
	check(options.max_read == 65536 && options.journal_size == 16 << 20);
	check(options.log_quota == 1 << 30 && options.on_full == EVENTLOG_GAP);
	check(options.transport == TRANSPORT_IO_URING && options.passthrough == FS_OFF);
	check(options.scheduling == SCHEDULING_NORMAL);
	check(options.durability == EVENTLOG_ALWAYS);
	check(options.scan == SCAN_FULL);
	check(options.allow_other && !options.allow_root && options.auto_unmount);
}

static void a_backslash_takes_the_meaning_from_a_comma(void)
{
	scoped(options_finish) struct options options = { 0 };

	check(parse(&options, "/src -o state=/a\\,b\\\\c,ro") == OPTIONS_MOUNT);
	check(strcmp(options.state, "/a,b\\c") == 0);
	check(options.mount_flags == MS_RDONLY);
}

static void the_lists_are_kept_as_they_were_given(void)
{
	scoped(options_finish) struct options options = { 0 };

	check(parse(&options, "/src -o ro,,noatime -o fsname=a\\,b") == OPTIONS_MOUNT);
	check(strcmp(options.text, "ro,,noatime,fsname=a\\,b") == 0);
}

static void an_unknown_option_is_named_with_what_was_meant(void)
{
	is_refused("/src -o nonsense", "'nonsense'");
	is_refused("/src -o passthru=on", "'passthru'");
	is_refused("/src -o durabilty=fsync", "durability");
	is_refused("/src -o x", "'x'");
	is_refused("/src -Z", "'-Z'");
	is_refused("/src --nonsense", "'--nonsense'");
	is_refused("/src -t ext4", "'ext4'");
	is_refused("/src -o", "-o");
}

static void what_is_far_from_everything_is_not_guessed(void)
{
	static const char *const lines[] = { "/src -o nonsense", "/src -o foo", "/src -o xx", "/src -o q" };

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		scoped(options_finish) struct options options = { 0 };

		check(parse(&options, lines[i]) == -EINVAL);
		check(!strstr(options.complaint, "meant"));
	}
}

static void a_remount_has_what_the_table_of_mounts_shows(void)
{
	scoped(options_finish) struct options options = { 0 };

	check(parse(&options, "/src /mnt -o rw,nosuid,relatime,user_id=0,group_id=0,blksize=512,remount,ro") == OPTIONS_MOUNT);
	check(options.is_remount && options.mount_flags == (MS_RDONLY | MS_NOSUID | MS_RELATIME));
	is_refused("/src -o remount", "remount needs");
	is_refused("/src /mnt -o user_id=0", "user_id is only for remount");
}

static void the_table_of_mounts_tells_flags(void)
{
	check(options_flags("") == 0);
	check(options_flags("rw,relatime,rw,user_id=0,default_permissions") == MS_RELATIME);
	check(options_flags("ro,nosuid,nodev,noexec,noatime,nodiratime,rw,sync,dirsync,allow_other") ==
	      (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME | MS_SYNCHRONOUS | MS_DIRSYNC));
	check(options_flags(",ro") == MS_RDONLY);
}

static void bad_values_are_refused(void)
{
	is_refused("/src -o transport=pigeon", "classic");
	is_refused("/src -o scheduling=never", "normal");
	is_refused("/src -o passthrough=maybe", "auto, on or off");
	is_refused("/src -o durability", "durability");
	is_refused("/src -o state=", "state");
	is_refused("/src -o ro=1", "ro");
	is_refused("/src -o max_read=x", "max_read");
	is_refused("/src -o max_read=1", "max_read");
	is_refused("/src -o max_read=-1", "max_read");
	is_refused("/src -o journal_size=1k", "journal_size");
	is_refused("/src -o log-quota=7M", "log-quota");
	is_refused("/src -o log-quota=all", "log-quota");
	is_refused("/src -o on-log-full=wait", "fail or gap");
	is_refused("/src -o journal_size=2G", "journal_size");
	is_refused("/src -o journal_size=16MB", "journal_size");
	is_refused("/src -o journal_size=99999999999999999999", "journal_size");
	is_refused("/src -o allow_other,allow_root", "allow_root");
}

static void the_number_of_places_is_checked(void)
{
	is_refused("", "no directory");
	is_refused("-f", "no directory");
	is_refused("/a /b /c", "'/c'");
}

static void durabilities_have_names(void)
{
	check(strcmp(options_durability_name(EVENTLOG_FSYNC), "fsync") == 0);
	check(strcmp(options_durability_name(EVENTLOG_ALWAYS), "always") == 0);
	check(strcmp(options_durability_name(EVENTLOG_PROCESS), "process") == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit(two_places_are_source_and_mount_point),
		unit(one_place_is_mounted_over),
		unit(letters_may_stand_behind_the_places_as_mount_8_puts_them),
		unit(debug_stays_in_the_foreground),
		unit(help_and_version_need_no_place),
		unit(the_last_of_two_opposites_holds),
		unit(a_remount_has_what_the_table_of_mounts_shows),
		unit(the_table_of_mounts_tells_flags),
		unit(what_is_for_mount_8_changes_nothing),
		unit(values_are_read),
		unit(a_backslash_takes_the_meaning_from_a_comma),
		unit(the_lists_are_kept_as_they_were_given),
		unit(an_unknown_option_is_named_with_what_was_meant),
		unit(what_is_far_from_everything_is_not_guessed),
		unit(bad_values_are_refused),
		unit(the_number_of_places_is_checked),
		unit(durabilities_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
