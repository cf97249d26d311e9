/*
 * SCTP in user space over raw IP (protocol 132), for the tests: a server, a client, and a forger of broken packets.
 *
 *   peer server ADDRESS PORT [ADDRESS PORT]...   serves until stdin ends
 *   peer client SOURCE ADDRESS PORT MESSAGES     one association; on stdin "again": as many messages once more; "shutdown" or
 *                                                "abort" ends it; "paths" is answered by server and client
 *   peer forge  SOURCE ADDRESS PORT              one INIT with a wrong CRC32c (IPv4)
 *
 * ADDRESS of a server and SOURCE of a client may be several with commas between them: then the association has as many paths,
 * and is quick to leave one that fails.
 *
 * Each message in either direction is known to the other side by its number. What happens is told on stdout, a line each.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <usrsctp.h>

enum { CLIENT = 1, SERVER = 2, MOST = 8192 };

static void fail(const char *what)
{
	fprintf(stderr, "peer: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static void say(const char *format, ...)
{
	va_list list;
	va_start(list, format);
	vprintf(format, list);
	va_end(list);
	fflush(stdout);
}

/* Message number `n` of one side: most fit a packet, some need several. */
static size_t message(int side, unsigned n, unsigned char *out)
{
	size_t len = n % 100 == 99 ? 4000 + n % 7 : 1 + n * 131 % 1100;
	for (size_t k = 0; k < len; k++)
		out[k] = (unsigned char)(n * 7 + k * 13 + (size_t)side * 101);
	return len;
}

static socklen_t address(const char *text, const char *port, struct sockaddr_storage *out)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)out;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
	memset(out, 0, sizeof *out);
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)atoi(port));
		return sizeof *v4;
	}
	if (inet_pton(AF_INET6, text, &v6->sin6_addr) != 1)
		fail(text);
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons((uint16_t)atoi(port));
	return sizeof *v6;
}

/* A one-to-one socket bound to these addresses alone: an association with no other paths than through the VIPs. */
static struct socket *bound(const char *ips, const char *port)
{
	struct sockaddr_storage local;
	char list[256], *rest = NULL;
	snprintf(list, sizeof list, "%s", ips);
	const char *ip = strtok_r(list, ",", &rest);
	socklen_t len = address(ip, port, &local);
	const int yes = 1;
	struct socket *s = usrsctp_socket(local.ss_family, SOCK_STREAM, IPPROTO_SCTP, NULL, NULL, 0, NULL);
	if (!s)
		fail("socket");
	if (usrsctp_setsockopt(s, IPPROTO_SCTP, SCTP_NODELAY, &yes, sizeof yes))
		fail("SCTP_NODELAY");
	if (usrsctp_bind(s, (struct sockaddr *)&local, len))
		fail("bind");
	while ((ip = strtok_r(NULL, ",", &rest))) {
		struct sockaddr_storage name;
		/* The port that the first address got. */
		struct sockaddr *names = NULL;
		if (usrsctp_getladdrs(s, 0, &names) < 1)
			fail("getladdrs");
		in_port_t got = ((struct sockaddr_in *)names)->sin_port;
		usrsctp_freeladdrs(names);
		address(ip, "0", &name);
		((struct sockaddr_in *)&name)->sin_port = got;
		if (usrsctp_bindx(s, (struct sockaddr *)&name, 1, SCTP_BINDX_ADD_ADDR))
			fail("bindx");
	}
	return s;
}

static int send_message(struct socket *s, int side, unsigned n)
{
	unsigned char bytes[MOST];
	struct sctp_sndinfo info = {.snd_sid = 1, .snd_ppid = htonl(n)};
	size_t len = message(side, n, bytes);
	return usrsctp_sendv(s, bytes, len, NULL, 0, &info, sizeof info, SCTP_SENDV_SNDINFO, 0) == (ssize_t)len;
}

/* One whole message: 1, or 0 at the end of the association, or -1 and errno. `*same`: it is number `n` of that side. */
static int receive_message(struct socket *s, int side, unsigned n, int *same)
{
	static const int whole = MSG_EOR;
	unsigned char got[MOST], wanted[MOST];
	size_t have = 0;
	for (;;) {
		int flags = 0;
		unsigned type = 0;
		struct sctp_rcvinfo info;
		struct sockaddr_storage from;
		socklen_t from_len = sizeof from, info_len = sizeof info;
		ssize_t len = usrsctp_recvv(s, got + have, sizeof got - have, (struct sockaddr *)&from, &from_len, &info,
					    &info_len, &type, &flags);
		if (len <= 0)
			return (int)len;
		have += (size_t)len;
		if (flags & whole)
			break;
	}
	*same = have == message(side, n, wanted) && memcmp(got, wanted, have) == 0;
	return 1;
}

/* How many of the other side's addresses are known to be there. */
static void paths(struct socket *s)
{
	struct sockaddr *names = NULL;
	const char *at;
	int n = usrsctp_getpaddrs(s, 0, &names), active = 0;
	at = (const char *)names;
	for (int i = 0; i < n; i++) {
		const struct sockaddr *name = (const struct sockaddr *)at;
		size_t size = name->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
		struct sctp_paddrinfo info;
		socklen_t len = sizeof info;
		memset(&info, 0, sizeof info);
		memcpy(&info.spinfo_address, name, size);
		if (usrsctp_getsockopt(s, IPPROTO_SCTP, SCTP_GET_PEER_ADDR_INFO, &info, &len) == 0)
			active += info.spinfo_state == SCTP_ACTIVE;
		at += size;
	}
	if (n > 0)
		usrsctp_freepaddrs(names);
	say("paths active=%d\n", active);
}

/* Answers each message with its own of the same number. */
static void *serve(void *socket)
{
	struct socket *s = socket;
	unsigned got = 0, wrong = 0;
	int same, status, error = 0;
	while ((status = receive_message(s, CLIENT, got, &same)) > 0) {
		wrong += !same;
		if (!send_message(s, SERVER, got)) {
			status = -1;
			break;
		}
		got++;
	}
	if (status < 0)
		error = errno;
	say("ended got=%u wrong=%u how=%s\n", got, wrong, status == 0 ? "shutdown" : error == ECONNRESET ? "abort" : strerror(error));
	usrsctp_close(s);
	return NULL;
}

/* The association that was accepted last. */
static struct socket *volatile latest;

static void *accept_all(void *socket)
{
	for (;;) {
		pthread_t thread;
		struct socket *s = usrsctp_accept(socket, NULL, NULL);
		if (!s)
			return NULL;
		latest = s;
		say("accepted\n");
		if (pthread_create(&thread, NULL, serve, s))
			fail("thread");
		pthread_detach(thread);
	}
}

static void server(int count, char **where)
{
	char line[64];
	struct sctpstat stat;
	for (int i = 0; i + 1 < count; i += 2) {
		pthread_t thread;
		struct socket *s = bound(where[i], where[i + 1]);
		if (usrsctp_listen(s, 16))
			fail("listen");
		if (pthread_create(&thread, NULL, accept_all, s))
			fail("thread");
		pthread_detach(thread);
	}
	say("listening\n");
	while (fgets(line, sizeof line, stdin)) {
		if (strncmp(line, "paths", 5) == 0) {
			paths(latest);
			continue;
		}
		usrsctp_get_stat(&stat);
		say("stats badsum=%u\n", stat.sctps_badsum);
	}
}

struct sender {
	struct socket *s;
	unsigned from, to;
};

static void *send_all(void *arg)
{
	const struct sender *job = arg;
	for (unsigned n = job->from; n < job->to; n++)
		if (!send_message(job->s, CLIENT, n))
			fail("send");
	return NULL;
}

static void client(const char *source, const char *to, const char *port, unsigned messages)
{
	struct socket *s = bound(source, "0");
	struct sockaddr_storage peer;
	socklen_t len = address(to, port, &peer);
	struct sender job = {s, 0, messages};
	struct sctpstat stat;
	pthread_t thread;
	unsigned wrong = 0;
	char line[64] = "";
	int same;

	if (usrsctp_connect(s, (struct sockaddr *)&peer, len)) {
		say("refused %s\n", strerror(errno));
		return;
	}
	say("connected\n");
	for (;;) {
		if (pthread_create(&thread, NULL, send_all, &job))
			fail("thread");
		for (unsigned n = job.from; n < job.to; n++) {
			if (receive_message(s, SERVER, n, &same) <= 0)
				fail("receive");
			wrong += !same;
		}
		pthread_join(thread, NULL);
		usrsctp_get_stat(&stat);
		say("talked got=%u wrong=%u badsum=%u\n", messages, wrong, stat.sctps_badsum);
		for (;;) {
			if (!fgets(line, sizeof line, stdin))
				return;
			if (strncmp(line, "paths", 5) != 0)
				break;
			paths(s);
		}
		if (strncmp(line, "again", 5) != 0)
			break;
		job = (struct sender){s, job.to, job.to + messages};
	}
	if (strncmp(line, "abort", 5) == 0) {
		struct sctp_sndinfo info = {.snd_flags = SCTP_ABORT};
		if (usrsctp_sendv(s, "enough", 6, NULL, 0, &info, sizeof info, SCTP_SENDV_SNDINFO, 0) < 0)
			fail("abort");
	} else {
		if (usrsctp_shutdown(s, SHUT_WR))
			fail("shutdown");
		/* Until the other side has answered: 0 is its SHUTDOWN ACK. */
		if (receive_message(s, SERVER, 0, &same) != 0)
			fail("end");
	}
	usrsctp_close(s);
	say("closed\n");
}

static void forge(const char *source, const char *to, const char *port)
{
	/* Source port 4444, tag 0, a CRC that is none; INIT, tag 0x01020304, window 65 536, 1 stream each way, TSN 1. */
	unsigned char init[] = {0x11, 0x5c, 0, 0, 0, 0, 0, 0, 0xde, 0xad, 0xbe, 0xef, 1, 0, 0, 20,
				1,    2,    3, 4, 0, 1, 0, 0, 0,    1,    0,    1,    0, 0, 0, 1};
	struct sockaddr_storage from, peer;
	socklen_t from_len = address(source, "0", &from), len = address(to, "0", &peer);
	int fd = socket(AF_INET, SOCK_RAW, IPPROTO_SCTP);
	init[2] = (unsigned char)(atoi(port) >> 8);
	init[3] = (unsigned char)atoi(port);
	if (fd < 0 || bind(fd, (struct sockaddr *)&from, from_len) ||
	    sendto(fd, init, sizeof init, 0, (struct sockaddr *)&peer, len) != sizeof init)
		fail("forge");
	close(fd);
}

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "forge") == 0) {
		forge(argv[2], argv[3], argv[4]);
		return 0;
	}
	if (argc < 3)
		return 2;
	/* No UDP encapsulation; raw sockets of its own; every CRC is computed and verified here. */
	usrsctp_init(0, NULL, NULL);
	usrsctp_disable_crc32c_offload();
	if (strchr(argv[2], ',')) {
		usrsctp_sysctl_set_sctp_rto_initial_default(200);
		usrsctp_sysctl_set_sctp_rto_min_default(100);
		usrsctp_sysctl_set_sctp_rto_max_default(1000);
		usrsctp_sysctl_set_sctp_heartbeat_interval_default(500);
		usrsctp_sysctl_set_sctp_path_rtx_max_default(2);
		/* Of the association: paths are to fail, and it is not, however long a busy machine takes. */
		usrsctp_sysctl_set_sctp_assoc_rtx_max_default(100);
		usrsctp_sysctl_set_sctp_init_rtx_max_default(8);
	}
	if (argc >= 4 && strcmp(argv[1], "server") == 0)
		server(argc - 2, argv + 2);
	else if (argc == 6 && strcmp(argv[1], "client") == 0)
		client(argv[2], argv[3], argv[4], (unsigned)atoi(argv[5]));
	else
		return 2;
	/* SHUTDOWN COMPLETE and ABORT are on the wire; what else usrsctp holds goes with the process. */
	usleep(200 * 1000);
	fflush(stdout);
	_exit(0);
}
