/* Messages on their way into a protocol: lengths around those of clusters. */
#include <errno.h>
#include <sys/socket.h>

#include "bsdcore/api.h"
#include "bsdcore/sys/socketvar.h"
#include "tests/unit/c/check.h"

static unsigned char out[200000], in[200001];

/* A datagram of PF_LOCAL may be longer than the longest cluster. */
TEST(long_local_datagrams)
{
	struct bsd_config cfg = { .name = "t", .virtual_time = 1 };
	struct bsd_memstat st;
	struct stack *s;
	struct socket *a, *b;

	for (size_t i = 0; i < sizeof(out); i++) {
		out[i] = (unsigned char)(i * 7 + i / 251);
	}
	CHECK_EQ(bsd_stack_new(&cfg, &s), 0);
	CHECK_EQ(bsd_socketpair(s, AF_UNIX, SOCK_DGRAM, &a, &b), 0);
	for (size_t len = 65400; len < sizeof(out); len = len * 17 / 16) {
		CHECK_EQ(bsd_send(a, out, len, 0, NULL, 0), (long)len);
		CHECK_EQ(bsd_recv(b, in, sizeof(in), 0, NULL, 0), (long)len);
		CHECK_MEM(in, out, len);
	}
	CHECK_EQ(bsd_send(a, out, 1 << 20, 0, NULL, 0), -EMSGSIZE);
	CHECK_EQ(bsd_close(a), 0);
	CHECK_EQ(bsd_close(b), 0);
	bsd_memstat(s, &st);
	CHECK_EQ(st.mbufs + st.cl64k + st.cl16k, 0);
	bsd_stack_free(s);
}

/* With no memory for all of a message none of it is sent. */
TEST(no_memory_for_a_message)
{
	struct bsd_config cfg = {
		.name = "t", .virtual_time = 1, .mem_limit = 128 << 10
	};
	struct stack *s;
	struct socket *a, *b;

	CHECK_EQ(bsd_stack_new(&cfg, &s), 0);
	CHECK_EQ(bsd_socketpair(s, AF_UNIX, SOCK_DGRAM, &a, &b), 0);
	CHECK_EQ(bsd_send(a, out, sizeof(out), 0, NULL, 0), -ENOBUFS);
	CHECK_EQ(bsd_recv(b, in, sizeof(in), 0, NULL, 0), -EAGAIN);
	CHECK_EQ(bsd_close(a), 0);
	CHECK_EQ(bsd_close(b), 0);
	bsd_stack_free(s);
}

/* What is on its way does not count against the bound of what is not sent. */
TEST(room_ahead_of_what_is_sent)
{
	struct bsd_config cfg = { .name = "t", .virtual_time = 1 };
	struct sockbuf sb = { .sb_hiwat = 100000,
		.sb_mbmax = 400000,
		.sb_cc = 50000,
		.sb_ahead = 30000 };
	struct stack *s;
	struct socket *a, *b;

	CHECK_EQ(sbspace(&sb), 0);
	CHECK(!sbwriteable(&sb));
	sb.sb_sent = 29000;
	CHECK_EQ(sbspace(&sb), 9000);
	CHECK(!sbwriteable(&sb));
	sb.sb_sent = 30000;
	CHECK_EQ(sbspace(&sb), 10000);
	CHECK(sbwriteable(&sb));
	sb.sb_sent = 50001; /* with a FIN */
	CHECK_EQ(sbspace(&sb), 30000);
	sb.sb_cc = sb.sb_sent = 95000;
	CHECK_EQ(sbspace(&sb), 5000); /* the buffer is a bound all the same */

	CHECK_EQ(bsd_stack_new(&cfg, &s), 0);
	CHECK_EQ(bsd_socketpair(s, AF_UNIX, SOCK_STREAM, &a, &b), 0);
	CHECK_EQ(bsd_set_ahead(a, 30000), -EOPNOTSUPP);
	CHECK_EQ(bsd_close(a), 0);
	CHECK_EQ(bsd_close(b), 0);
	CHECK_EQ(bsd_socket(s, AF_INET, SOCK_STREAM, 0, &a), 0);
	CHECK_EQ(bsd_set_ahead(a, 1000000), 0);
	CHECK_EQ(a->so_snd.sb_ahead, 1000000);
	CHECK(a->so_snd.sb_hiwat >= 1000000);
	CHECK(a->so_snd.sb_flags & SB_AUTOSIZE);
	CHECK_EQ(bsd_close(a), 0);
	bsd_stack_free(s);
}

TESTS(RUN(long_local_datagrams), RUN(no_memory_for_a_message),
    RUN(room_ahead_of_what_is_sent))
