/*
 * The capture writer, read back by a reader of the format that is the test's
 * own: what is recorded, what a record says, and what a file that takes no
 * more costs.
 */
#include <errno.h>
#include <sys/stat.h>

#include "nic/port_pcapng.c"
#include "tests/unit/c/fakeport.h"

#define MS UINT64_C(1000000)
#define EPOCH UINT64_C(1700000000000000000)

static struct pkt_pool *pool;
static struct fake *lower;
static struct port *port;
static bool closed;
static char path[] = "/tmp/test_port_pcapng.XXXXXX";

/* The file, and where the reader is. */
static uint8_t *file;
static uint32_t filelen, at;

/* One record. */
struct record {
	uint64_t rc_when;
	const uint8_t *rc_data;
	uint32_t rc_cap, rc_len, rc_flags;
	char rc_comment[64];
	int rc_ncomments;
};

static void
setup_caps(enum port_link link, uint32_t caps, uint32_t snaplen)
{
	int fd;

	strcpy(path, "/tmp/test_port_pcapng.XXXXXX");
	fd = mkstemp(path);
	CHECK(fd >= 0);
	close(fd);
	pool = nic_pool_new(64 << 20);
	lower = fake_open(pool, link, caps, &closed);
	CHECK_EQ(nic_pcapng_wrap(&lower->fk_port, path, snaplen, "test0", EPOCH,
		     &port),
	    0);
}

static void
setup(void)
{
	setup_caps(PORT_ETHER,
	    PORT_SG | PORT_TXCSUM | PORT_RXCSUM | PORT_TSO | PORT_LRO, 0);
}

static uint32_t
get32(const uint8_t *b)
{
	uint32_t v;

	memcpy(&v, b, sizeof(v));
	return v;
}

static uint32_t
get16host(const uint8_t *b)
{
	uint16_t v;

	memcpy(&v, b, sizeof(v));
	return v;
}

static void
load(const char *name)
{
	FILE *f = fopen(name, "rb");

	CHECK(f != NULL);
	free(file);
	file = malloc(8 << 20);
	filelen = (uint32_t)fread(file, 1, 8 << 20, f);
	fclose(f);
	at = 0;
}

/* The next block: its type, its body at *body. Checks both lengths. */
static uint32_t
block(const uint8_t **body, uint32_t *len)
{
	uint32_t type, total;

	CHECK(filelen - at >= 12);
	type = get32(file + at);
	total = get32(file + at + 4);
	CHECK(total % 4 == 0 && total >= 12 && total <= filelen - at);
	CHECK_EQ(get32(file + at + total - 4), total);
	*body = file + at + 8;
	*len = total - 12;
	at += total;
	return type;
}

/* Section and interface; returns the link type. */
static uint32_t
header(void)
{
	const uint8_t *b, *o;
	uint32_t len, link, seen = 0;

	CHECK_EQ(block(&b, &len), 0x0a0d0d0a);
	CHECK_EQ(get32(b), 0x1a2b3c4d);
	CHECK_EQ(get16host(b + 4), 1);
	CHECK_EQ(block(&b, &len), 1);
	link = get16host(b);
	for (o = b + 8; get16host(o) != 0; o += 4 + pad4(get16host(o + 2))) {
		CHECK(o < b + len);
		switch (get16host(o)) {
		case 2:
			CHECK_EQ(get16host(o + 2), 5);
			CHECK_MEM(o + 4, "test0", 5);
			seen |= 1;
			break;
		case 6:
			CHECK_MEM(o + 4, "\2\0\0\0\0\1", 6);
			seen |= 2;
			break;
		case 9:
			CHECK_EQ(o[4], 9);
			seen |= 4;
			break;
		}
	}
	CHECK_EQ(seen, link == 1 ? 7 : 5);
	return link;
}

static bool
record(struct record *rc)
{
	const uint8_t *b, *o;
	uint32_t len;

	if (at == filelen) {
		return false;
	}
	memset(rc, 0, sizeof(*rc));
	CHECK_EQ(block(&b, &len), 6);
	CHECK_EQ(get32(b), 0);
	rc->rc_when = (uint64_t)get32(b + 4) << 32 | get32(b + 8);
	rc->rc_cap = get32(b + 12);
	rc->rc_len = get32(b + 16);
	rc->rc_data = b + 20;
	o = b + 20 + pad4(rc->rc_cap);
	for (; get16host(o) != 0; o += 4 + pad4(get16host(o + 2))) {
		CHECK(o < b + len);
		if (get16host(o) == 2) {
			CHECK_EQ(get16host(o + 2), 4);
			rc->rc_flags = get32(o + 4);
		} else {
			CHECK_EQ(get16host(o), 1);
			snprintf(rc->rc_comment, sizeof(rc->rc_comment), "%.*s",
			    (int)get16host(o + 2), (const char *)o + 4);
			rc->rc_ncomments++;
		}
	}
	CHECK(o + 4 == b + len);
	return true;
}

/* Close the port, then read what it wrote. */
static uint32_t
finish(void)
{
	nic_close(port);
	CHECK(closed);
	CHECK_EQ(pool_active(pool), 0);
	nic_pool_free(pool);
	load(path);
	unlink(path);
	return header();
}

static int
send_pkt(struct pkt *p, uint64_t now)
{
	return port->pt_output(port, &p, 1, now);
}

static struct nic_pcapng_stats
stats(void)
{
	struct nic_pcapng_stats st;

	CHECK_EQ(nic_pcapng_stats(port, &st), 0);
	return st;
}

TEST(both_directions_with_times)
{
	struct record rc;
	struct pkt *p, *v[8];
	struct stat st;

	setup();
	CHECK_EQ(stat(path, &st), 0);
	CHECK_EQ(st.st_mode & 077, 0);
	CHECK_EQ(port_fd(port), 7);
	p = fake_frame(pool, 1, 61);
	p->p_data[0] = 2;
	CHECK_EQ(send_pkt(p, 5 * MS + 1), 1);
	p = fake_frame(pool, 1, 62);
	memset(p->p_data, 0xff, 6);
	fake_receives(lower, p);
	p = fake_frame(pool, 1, 63);
	p->p_data[0] = 1;
	fake_receives(lower, p);
	CHECK_EQ(port->pt_input(port, v, 8, 6 * MS), 2);
	pkt_free(v[0]);
	pkt_free(v[1]);
	CHECK_EQ(stats().packets, 3);
	CHECK_EQ(port->pt_stats.ps_rxpkts, 2);
	CHECK_EQ(port->pt_stats.ps_txpkts, 1);

	CHECK_EQ(finish(), 1);
	CHECK(record(&rc));
	CHECK_EQ(rc.rc_when, EPOCH + 5 * MS + 1);
	CHECK_EQ(rc.rc_cap, 61);
	CHECK_EQ(rc.rc_len, 61);
	CHECK_EQ(rc.rc_flags, 2 | 1 << 2); /* out, unicast */
	CHECK_EQ(rc.rc_data[60], 0x5a);
	CHECK(record(&rc));
	CHECK_EQ(rc.rc_when, EPOCH + 6 * MS);
	CHECK_EQ(rc.rc_flags, 1 | 3 << 2); /* in, broadcast */
	CHECK(record(&rc));
	CHECK_EQ(rc.rc_cap, 63);
	CHECK_EQ(rc.rc_flags, 1 | 2 << 2); /* in, multicast */
	CHECK(!record(&rc));
}

TEST(raw_ip_is_another_link_type)
{
	struct record rc;

	setup_caps(PORT_RAWIP, PORT_SG, 0);
	CHECK_EQ(send_pkt(fake_frame(pool, 0, 40), 0), 1);
	CHECK_EQ(finish(), 101);
	CHECK(record(&rc));
	CHECK_EQ(rc.rc_flags, 2);
}

TEST(comments_go_with_the_next_packet)
{
	struct record rc;
	static char longest[PCAPNG_COMMENTS];

	setup();
	CHECK_EQ(nic_pcapng_comment(port, "one"), 0);
	CHECK_EQ(nic_pcapng_comment(port, "three"), 0);
	CHECK_EQ(nic_pcapng_comment(port, ""), -EINVAL);
	memset(longest, 'x', sizeof(longest) - 1);
	CHECK_EQ(nic_pcapng_comment(port, longest), -ENOBUFS);
	/* A packet that is not taken does not take the comment along. */
	lower->fk_room = 0;
	{
		struct pkt *p = fake_frame(pool, 7, 60);

		CHECK_EQ(port->pt_output(port, &p, 1, 0), 0);
		lower->fk_room = 5;
		CHECK_EQ(port->pt_output(port, &p, 1, 1), 1);
	}
	CHECK_EQ(send_pkt(fake_frame(pool, 8, 60), 2), 1);
	CHECK_EQ(nic_pcapng_comment(&lower->fk_port, "x"), -EINVAL);
	finish();
	CHECK(record(&rc));
	CHECK_EQ(rc.rc_when, EPOCH + 1);
	CHECK_EQ(rc.rc_ncomments, 2);
	CHECK_STR(rc.rc_comment, "three");
	CHECK(record(&rc));
	CHECK_EQ(rc.rc_ncomments, 0);
	CHECK(!record(&rc));
}

TEST(only_what_was_taken_is_recorded)
{
	struct record rc;
	struct pkt *v[10];
	uint32_t i;

	setup();
	for (i = 0; i < 10; i++) {
		v[i] = fake_frame(pool, i, 60);
	}
	lower->fk_room = 4;
	CHECK_EQ(port->pt_output(port, v, 10, 1), 4);
	CHECK_EQ(port->pt_output(port, v + 4, 6, 2), 0);
	lower->fk_error = -ENETDOWN;
	CHECK_EQ(port->pt_output(port, v + 4, 6, 3), -ENETDOWN);
	lower->fk_error = 0;
	lower->fk_room = 100;
	CHECK_EQ(port->pt_output(port, v + 4, 6, 4), 6);
	CHECK_EQ(stats().packets, 10);
	finish();
	for (i = 0; i < 10; i++) {
		uint32_t number;

		CHECK(record(&rc));
		memcpy(&number, rc.rc_data, 4);
		CHECK_EQ(number, i);
		CHECK_EQ(rc.rc_when, EPOCH + (i < 4 ? 1 : 4));
	}
	CHECK(!record(&rc));
}

TEST(a_short_snaplen_keeps_the_length)
{
	struct record rc;

	setup_caps(PORT_ETHER, PORT_SG | PORT_TXCSUM, 50);
	CHECK_EQ(send_pkt(fake_packet(pool, 4, 6, 300, 0, true), 0), 1);
	finish();
	CHECK(record(&rc));
	CHECK_EQ(rc.rc_cap, 50); /* the checksum is at 50: cut off */
	CHECK_EQ(rc.rc_len, 354);
	setup_caps(PORT_ETHER, PORT_SG | PORT_TXCSUM, 52);
	CHECK_EQ(send_pkt(fake_packet(pool, 4, 6, 300, 0, true), 0), 1);
	finish();
	CHECK(record(&rc));
	CHECK_EQ(rc.rc_cap, 52);
	{
		struct pkt_pool *own = nic_pool_new(1 << 20);
		struct pkt *p = fake_packet(own, 4, 6, 300, 0, false);

		CHECK_EQ(offload_csum(p), 0);
		CHECK_MEM(rc.rc_data, p->p_data, 52);
		pkt_free(p);
		nic_pool_free(own);
	}
}

TEST(checksums_are_finished_in_the_record_only)
{
	static const int kind[4][2] = { { 4, 6 }, { 6, 6 }, { 4, 17 },
		{ 6, 17 } };
	struct record rc;
	int i;

	setup();
	for (i = 0; i < 4; i++) {
		CHECK_EQ(send_pkt(fake_packet(pool, kind[i][0], kind[i][1], 333,
				      0, true),
			     0),
		    1);
		CHECK(lower->fk_out[i]->p_flags & PKT_CSUM_PARTIAL);
		CHECK_EQ(offload_csum(lower->fk_out[i]), 0);
	}
	finish();
	for (i = 0; i < 4; i++) {
		CHECK(record(&rc));
		CHECK(fake_csum_ok(rc.rc_data, rc.rc_len));
	}
}

/* One TCP segment in 65536 sums up to zero, and that is how it is written. */
TEST(a_sum_of_zero_is_replaced_for_udp_alone)
{
	static const struct {
		int proto;
		uint32_t word, field, want;
	} row[2] = { { 6, 4, 16, 0 }, { 17, 0, 6, 0xffff } };
	struct record rc;
	int i;

	setup();
	for (i = 0; i < 2; i++) {
		struct pkt *p = fake_packet(pool, 4, row[i].proto, 300, 0, true);
		uint8_t *word = p->p_data + p->p_csum_start + row[i].word;
		uint16_t rest;

		memset(word, 0, 2);
		rest = (uint16_t)~csum_fold(csum_pkt(p, p->p_csum_start,
		    p->p_pktlen - p->p_csum_start));
		memcpy(word, &rest, 2);
		CHECK_EQ(send_pkt(p, 0), 1);
	}
	finish();
	for (i = 0; i < 2; i++) {
		CHECK(record(&rc));
		CHECK_EQ(get16(rc.rc_data + 34 + row[i].field), row[i].want);
		CHECK(fake_csum_ok(rc.rc_data, rc.rc_len));
	}
}

TEST(a_super_segment_is_one_sound_packet)
{
	static const int kind[4][2] = { { 4, 6 }, { 6, 6 }, { 4, 17 },
		{ 6, 17 } };
	struct record rc;
	struct pkt *p, *v[1];
	int i;

	setup();
	for (i = 0; i < 8; i++) {
		p = fake_packet(pool, kind[i % 4][0], kind[i % 4][1], 20001,
		    1400, true);
		if (i < 4) {
			CHECK_EQ(send_pkt(p, 0), 1);
			continue;
		}
		/* Merged on the way in: checked, and never put right. */
		p->p_flags = PKT_CSUM_VALID;
		fake_receives(lower, p);
		CHECK_EQ(port->pt_input(port, v, 1, 0), 1);
		pkt_free(v[0]);
	}
	finish();
	for (i = 0; i < 8; i++) {
		uint32_t l3;
		const uint8_t *b;

		CHECK(record(&rc));
		b = rc.rc_data;
		CHECK(fake_csum_ok(b, rc.rc_len));
		l3 = kind[i % 4][0] == 4 ? get16(b + 16) : get16(b + 18) + 40u;
		CHECK_EQ(l3, rc.rc_len - 14);
		if (kind[i % 4][0] == 4) {
			CHECK_EQ(csum_fold(csum_add(b + 14, 20, 0)), 0xffff);
		}
		if (kind[i % 4][1] == 17) {
			CHECK_EQ(get16(rc.rc_data + rc.rc_len - 20001 - 4),
			    20001 + 8);
		}
	}
}

TEST(nonsense_offsets_touch_nothing)
{
	struct record rc;
	struct pkt *p;

	setup_caps(PORT_ETHER, PORT_SG | PORT_TXCSUM | PORT_RXCSUM, 0);
	p = fake_frame(pool, 1, 60);
	p->p_flags = PKT_CSUM_PARTIAL;
	p->p_csum_start = 59;
	p->p_csum_offset = 65535;
	fake_receives(lower, p);
	CHECK_EQ(port->pt_input(port, &p, 1, 0), 1);
	pkt_free(p);
	p = fake_frame(pool, 2, 60);
	p->p_gso_type = PKT_GSO_TCPV4;
	p->p_gso_size = 10;
	fake_receives(lower, p);
	CHECK_EQ(port->pt_input(port, &p, 1, 0), 1);
	pkt_free(p);
	finish();
	CHECK(record(&rc) && rc.rc_data[59] == 0x5a);
	CHECK(record(&rc) && rc.rc_data[59] == 0x5a);
}

TEST(more_than_the_buffer_goes_to_the_file)
{
	struct record rc;
	struct pkt *v[PORT_BURST];
	uint32_t i, n, round, count = 0, number;

	setup_caps(PORT_ETHER, PORT_SG, 0);
	for (round = 0; round < 2; round++) {
		for (i = 0; i < PORT_BURST; i++) {
			v[i] = fake_frame(pool, count + i, 40000);
		}
		n = PORT_BURST;
		CHECK_EQ(port->pt_output(port, v, (int)n, round), n);
		count += n;
		while (lower->fk_nout > 0) {
			pkt_free(lower->fk_out[--lower->fk_nout]);
		}
	}
	CHECK(stats().bytes > 3 << 20);
	CHECK_EQ(nic_pcapng_flush(port), 0);
	CHECK_EQ(CONTAINER_OF(port, struct pcapng_port, pc_port)->pc_len, 0);
	CHECK_EQ(stats().lost, 0);
	finish();
	for (i = 0; i < count; i++) {
		CHECK(record(&rc));
		memcpy(&number, rc.rc_data, 4);
		CHECK_EQ(number, i);
		CHECK_EQ(rc.rc_cap, 40000);
	}
	CHECK(!record(&rc));
}

TEST(a_file_that_is_full_costs_records_not_traffic)
{
	struct pkt *v[1];
	struct record rc;
	uint32_t i, number, last = 0, n = 0;
	uint64_t lost;
	ssize_t got;
	int fd;

	strcpy(path, "/tmp/test_port_pcapng.XXXXXX");
	fd = mkstemp(path);
	CHECK(fd >= 0);
	close(fd);
	unlink(path);
	CHECK_EQ(mkfifo(path, 0600), 0);
	fd = open(path, O_RDONLY | O_NONBLOCK);
	CHECK(fd >= 0);
	pool = nic_pool_new(64 << 20);
	lower = fake_open(pool, PORT_ETHER, PORT_SG, &closed);
	CHECK_EQ(nic_pcapng_wrap(&lower->fk_port, path, 0, "test0", EPOCH, &port),
	    0);
	/* Nobody reads: the pipe fills, then the buffer, then records go. */
	for (i = 0; i < 60; i++) {
		v[0] = fake_frame(pool, i, 30000);
		if (i % 2) {
			CHECK_EQ(port->pt_output(port, v, 1, i), 1);
		} else {
			fake_receives(lower, v[0]);
			CHECK_EQ(port->pt_input(port, v, 1, i), 1);
			pkt_free(v[0]);
		}
	}
	lost = stats().lost;
	CHECK(lost > 15 && lost < 30);
	CHECK_EQ(stats().packets, 60 - lost);
	CHECK_EQ(stats().errors, 1); /* not one for each packet */
	CHECK_EQ(nic_pcapng_flush(port), -EAGAIN);
	/* Somebody reads: what comes out is whole. */
	file = realloc(file, 8 << 20);
	filelen = 0;
	for (i = 0; i < 1000; i++) {
		int error = nic_pcapng_flush(port);

		while ((got = read(fd, file + filelen, 1 << 20)) > 0) {
			filelen += (uint32_t)got;
		}
		if (error == 0) {
			break;
		}
		CHECK_EQ(error, -EAGAIN);
	}
	CHECK_EQ(send_pkt(fake_frame(pool, 60, 30000), 1000 * MS), 1);
	CHECK_EQ(nic_pcapng_flush(port), 0);
	while ((got = read(fd, file + filelen, 1 << 20)) > 0) {
		filelen += (uint32_t)got;
	}
	at = 0;
	CHECK_EQ(header(), 1);
	while (record(&rc)) {
		memcpy(&number, rc.rc_data, 4);
		CHECK(n == 0 || number > last);
		last = number;
		n++;
	}
	CHECK_EQ(n, 60 - lost + 1);
	CHECK_EQ(last, 60);
	close(fd);
	nic_close(port);
	CHECK(closed);
	CHECK_EQ(pool_active(pool), 0);
	nic_pool_free(pool);
	unlink(path);
}

TEST(a_file_that_cannot_be_written_is_told_at_once)
{
	pool = nic_pool_new(1 << 20);
	port = NULL;
	lower = fake_open(pool, PORT_ETHER, 0, &closed);
	CHECK_EQ(nic_pcapng_wrap(&lower->fk_port, "/nonexistent/x", 0, NULL, 0,
		     &port),
	    -ENOENT);
	CHECK(closed && port == NULL);
	lower = fake_open(pool, PORT_ETHER, 0, &closed);
	CHECK_EQ(nic_pcapng_wrap(&lower->fk_port, "/dev/full", 0, NULL, 0, &port),
	    -ENOSPC);
	CHECK(closed && port == NULL);
	nic_pool_free(pool);
}

TEST(control_reaches_the_port_below)
{
	struct pkt *v[1];

	setup();
	CHECK_EQ(nic_set_promisc(port, 1), 0);
	CHECK_EQ(lower->fk_ctl, PORT_CTL_PROMISC);
	CHECK_EQ(port_poll_at(port), PORT_NEVER);
	lower->fk_error = -ENETDOWN;
	CHECK_EQ(port->pt_input(port, v, 1, 0), -ENETDOWN);
	finish();
	free(file);
	file = NULL;
}

TESTS(RUN(both_directions_with_times), RUN(raw_ip_is_another_link_type),
    RUN(comments_go_with_the_next_packet), RUN(only_what_was_taken_is_recorded),
    RUN(a_short_snaplen_keeps_the_length),
    RUN(checksums_are_finished_in_the_record_only),
    RUN(a_sum_of_zero_is_replaced_for_udp_alone),
    RUN(a_super_segment_is_one_sound_packet),
    RUN(nonsense_offsets_touch_nothing),
    RUN(more_than_the_buffer_goes_to_the_file),
    RUN(a_file_that_is_full_costs_records_not_traffic),
    RUN(a_file_that_cannot_be_written_is_told_at_once),
    RUN(control_reaches_the_port_below))
