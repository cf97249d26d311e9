/*
 * What Rust calls of DPDK: its headers, and functions for what they only offer as macros or static inlines.
 *
 * On the data path there is one function per burst, never one per packet.
 */
#ifndef POLLUX_DPDK_SHIM_H
#define POLLUX_DPDK_SHIM_H

#include <stdint.h>

#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_hash.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <rte_thash.h>
#include <rte_version.h>

/* Flags that are macros with casts, which bindgen leaves out. */
static const uint64_t PX_MBUF_F_RX_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t PX_MBUF_F_RX_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t PX_MBUF_F_RX_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t PX_MBUF_F_TX_SCTP_CKSUM = RTE_MBUF_F_TX_SCTP_CKSUM;
static const uint64_t PX_MBUF_F_TX_L4_MASK = RTE_MBUF_F_TX_L4_MASK;
static const uint64_t PX_MBUF_F_TX_IPV4 = RTE_MBUF_F_TX_IPV4;
static const uint64_t PX_MBUF_F_TX_IPV6 = RTE_MBUF_F_TX_IPV6;
static const uint64_t PX_MBUF_F_TX_OFFLOAD_MASK = RTE_MBUF_F_TX_OFFLOAD_MASK;

static const uint64_t PX_RX_OFFLOAD_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t PX_RX_OFFLOAD_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;
static const uint64_t PX_TX_OFFLOAD_SCTP_CKSUM = RTE_ETH_TX_OFFLOAD_SCTP_CKSUM;

static const uint64_t PX_RSS_IP = RTE_ETH_RSS_IP;
static const uint64_t PX_RSS_TCP = RTE_ETH_RSS_TCP;
static const uint64_t PX_RSS_UDP = RTE_ETH_RSS_UDP;
static const uint64_t PX_RSS_SCTP = RTE_ETH_RSS_SCTP;
/* What has ports, without the extension headers that few devices know. */
static const uint64_t PX_RSS_TCP_UDP = RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV4_UDP |
	RTE_ETH_RSS_NONFRAG_IPV6_TCP | RTE_ETH_RSS_NONFRAG_IPV6_UDP;
static const uint64_t PX_RSS_L3_SRC_ONLY = RTE_ETH_RSS_L3_SRC_ONLY;
static const uint64_t PX_RSS_L3_DST_ONLY = RTE_ETH_RSS_L3_DST_ONLY;
static const uint64_t PX_RSS_L4_SRC_ONLY = RTE_ETH_RSS_L4_SRC_ONLY;
static const uint64_t PX_RSS_L4_DST_ONLY = RTE_ETH_RSS_L4_DST_ONLY;

static const uint32_t PX_RING_F_SP_ENQ = RING_F_SP_ENQ;
static const uint32_t PX_RING_F_SC_DEQ = RING_F_SC_DEQ;
static const int PX_SOCKET_ID_ANY = SOCKET_ID_ANY;

/* rte_errno is a per-thread variable behind a macro. */
int px_errno(void);

/* Sends DPDK's log, line by line, to what this descriptor refers to. 0, or -1. Not for two threads at once. */
int px_log_to_fd(int fd);

/* Bursts. */
uint16_t px_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t n);
uint16_t px_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t n);
uint32_t px_ring_enqueue_burst(struct rte_ring *ring, struct rte_mbuf **frames, uint32_t n);
uint32_t px_ring_dequeue_burst(struct rte_ring *ring, struct rte_mbuf **frames, uint32_t n);
uint32_t px_ring_count(const struct rte_ring *ring);
/* All n, or none (-1). */
int px_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **frames, uint32_t n);

/* One frame at a time, off the data path. */
struct rte_mbuf *px_alloc(struct rte_mempool *pool);
void px_free(struct rte_mbuf *frame);
/* 0, or -1 where the first segment has no room for all. */
int px_linearize(struct rte_mbuf *frame);
/* Adds a segment of len bytes from another mbuf, which then belongs to head; 0, or -1 with nothing changed. */
int px_chain(struct rte_mbuf *head, struct rte_mbuf *tail);
/* Bytes that a pool takes for each of its buffers: header, mbuf and data. */
uint32_t px_object_size(const struct rte_mempool *pool);
/* Data room of the pool's buffers, headroom included. */
uint16_t px_data_room(struct rte_mempool *pool);

/* The Toeplitz hash as DPDK computes it: n words of input in the byte order of the CPU, a key of 4 * (n + 1) bytes. */
uint32_t px_softrss(uint32_t *words, uint32_t n, const uint8_t *key);

/* Cycles of the time stamp counter. */
uint64_t px_tsc(void);

#endif
