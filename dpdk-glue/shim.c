#include "shim.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int px_errno(void)
{
	return rte_errno;
}

int px_log_to_fd(int fd)
{
	/* One stream for the life of the process; only what is behind its descriptor changes, which dup2 does atomically
	 * for threads that log at that moment. */
	static FILE *stream;
	if (stream != NULL) {
		fflush(stream);
		return dup2(fd, fileno(stream)) < 0 ? -1 : 0;
	}
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (copy < 0)
		return -1;
	stream = fdopen(copy, "w");
	if (stream == NULL) {
		close(copy);
		return -1;
	}
	setvbuf(stream, NULL, _IOLBF, 0);
	return rte_openlog_stream(stream);
}

uint16_t px_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t n)
{
	return rte_eth_rx_burst(port, queue, frames, n);
}

uint16_t px_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t n)
{
	return rte_eth_tx_burst(port, queue, frames, n);
}

uint32_t px_ring_enqueue_burst(struct rte_ring *ring, struct rte_mbuf **frames, uint32_t n)
{
	return rte_ring_enqueue_burst(ring, (void *const *)frames, n, NULL);
}

uint32_t px_ring_dequeue_burst(struct rte_ring *ring, struct rte_mbuf **frames, uint32_t n)
{
	return rte_ring_dequeue_burst(ring, (void **)frames, n, NULL);
}

uint32_t px_ring_count(const struct rte_ring *ring)
{
	return rte_ring_count(ring);
}

int px_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **frames, uint32_t n)
{
	return rte_pktmbuf_alloc_bulk(pool, frames, n) == 0 ? 0 : -1;
}

struct rte_mbuf *px_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

void px_free(struct rte_mbuf *frame)
{
	rte_pktmbuf_free(frame);
}

int px_linearize(struct rte_mbuf *frame)
{
	return rte_pktmbuf_linearize(frame);
}

int px_chain(struct rte_mbuf *head, struct rte_mbuf *tail)
{
	return rte_pktmbuf_chain(head, tail) == 0 ? 0 : -1;
}

uint32_t px_object_size(const struct rte_mempool *pool)
{
	return pool->header_size + pool->elt_size + pool->trailer_size;
}

uint16_t px_data_room(struct rte_mempool *pool)
{
	return rte_pktmbuf_data_room_size(pool);
}

uint32_t px_softrss(uint32_t *words, uint32_t n, const uint8_t *key)
{
	return rte_softrss(words, n, key);
}

uint64_t px_tsc(void)
{
	return rte_rdtsc();
}
