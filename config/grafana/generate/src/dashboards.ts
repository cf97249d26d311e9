// The dashboards. `$instance`, `$service` and `$endpoint` are regular expressions.

import { bars, dial, graph, matrix, number, page, rows, series, stacked, unit } from './panels.js';

const of = '{instance=~"$instance"}';
const svc = '{instance=~"$instance", service=~"$service"}';
const ep = '{instance=~"$instance", service=~"$service", dip=~"$endpoint"}';
const rate = (family: string, selector = of) => `rate(${family}${selector}[$__rate_interval])`;
/** Families that Prometheus has of itself, too, of Pollux alone. */
const own = (family: string) => `(${family}${of} and on (job, instance) pollux_config_generation)`;
const PROTOCOLS = ['tcp', 'udp', 'sctp'] as const;

const perRequest = 'rate(total_errors{instance=~"$instance"}[5m]) / (rate(total_requests{instance=~"$instance"}[5m]) > 0)';
const entries = 'sum by (job, instance) (pollux_conntrack_entries{instance=~"$instance"})';
const fill = `${entries} / on (job, instance) pollux_conntrack_capacity${of}`;

export const overview = page('pollux-overview', 'Pollux / Overview', 'Is it well, what does it carry, and where to look next.', [], {
  'Is it well?': [
    number('Engine', unit.count, `up{instance=~"$instance", job=~"pollux.*|loxilb.*"}`, [0.5, 1, true], '1: scraped. 0 also when /metrics answers 503, because its snapshot is old or a worker hangs.'),
    number('Age of the figures', unit.seconds, `time() - pollux_snapshot_timestamp_seconds${of}`, [25, 45]),
    number('Healthy endpoints', unit.count, `healthy_endpoints_count${of}`, [1, 2, true]),
    number('Unhealthy endpoints', unit.count, `unhealthy_endpoints_count${of}`, [1, 1e9], 'Those set down in the configuration included.'),
    number('Errors per request', unit.ratio, perRequest, [0.01, 0.05]),
    number('Connection table', unit.ratio, fill, [0.7, 0.9]),
  ],
  'What does it carry?': [
    number('Connections', unit.count, `active_conntrack_count${of}`),
    number('New connections', unit.perSecond, rate('total_requests')),
    number('Traffic', unit.bits, `${rate('processed_bytes_total')} * 8`),
    number('Packets', unit.packets, rate('processed_packets_total')),
    number('Firewall drops', unit.packets, rate('total_fw_drops')),
    number('Other drops', unit.packets, `sum by (job, instance) (rate(pollux_dropped_packets_total{instance=~"$instance", reason!="firewall"}[$__rate_interval]))`),
    stacked('Traffic by protocol', unit.bits, PROTOCOLS.map((p) => [`sum(${rate(`processed_${p}_bytes`)}) * 8`, p] as const), 'IP packets, both directions, without Ethernet.'),
    stacked('Packets by protocol', unit.packets, PROTOCOLS.map((p) => [`sum(${rate(`processed_${p}_packets`)})`, p] as const)),
    stacked('Connections by protocol', unit.count, PROTOCOLS.map((p) => [`sum(active_flow_count_${p}${of})`, p] as const)),
    series('Requests and errors', unit.perSecond, [
      [rate('total_requests'), '{{instance}} requests'],
      [rate('total_errors'), '{{instance}} errors'],
    ]),
  ],
  'The machine': [
    dial('CPU', `system_cpu_utilization${of}`, 70, 90, 'Of a worker only useful work counts: an idle one is at 0.'),
    dial('Memory', `system_memory_utilization${of}`, 80, 90, 'Without hugepages.'),
    dial('Disk', `system_disk_utilization${of}`, 80, 90, 'The root file system.'),
    series('Workers', unit.ratio, [[`pollux_worker_busy_ratio${of}`, '{{instance}} worker {{worker}}']]),
  ],
  'What is wrong?': [
    rows(
      'Alerts',
      ['ALERTS{alertstate="firing"}'],
      { severity: ['Severity'], alertname: ['Alert'], instance: ['Engine'], service: ['Service'], dip: ['Endpoint'], sip: ['Client'], reason: ['Reason'], port: ['Port'] },
      [],
      undefined,
      'What the rules of config/prometheus say, if Prometheus has loaded them.',
    ),
  ],
});

export const services = page('pollux-services', 'Pollux / Services and endpoints', 'Who is asked, who answers, and who does not.', ['service', 'endpoint'], {
  Services: [
    rows(
      'Services',
      [
        `sum by (instance, service) (rate(total_requests_per_service${svc}[5m]))`,
        `sum by (instance, service) (rate(total_errors_per_service${svc}[5m]))`,
        `sum by (instance, service) (rate(service_traffic_bytes${svc}[5m])) * 8`,
        `sum by (instance, service) (rate(service_traffic_packets${svc}[5m]))`,
        `rps_1m_peak${svc}`,
      ],
      {
        instance: ['Engine'],
        service: ['Service'],
        'Value #A': ['Requests', unit.perSecond],
        'Value #E': ['Busiest second of a minute', unit.perSecond],
        'Value #B': ['Errors', unit.perSecond],
        'Value #C': ['Traffic', unit.bits],
        'Value #D': ['Packets', unit.packets],
      },
      [],
      'Requests',
      'Of the last five minutes.',
    ),
    series('Top 10 services by requests', unit.perSecond, [[`topk(10, ${rate('total_requests_per_service', svc)})`, '{{instance}} {{service}}']]),
    series('Top 10 services by traffic', unit.bits, [[`topk(10, ${rate('service_traffic_bytes', svc)}) * 8`, '{{instance}} {{service}}']]),
    series('Errors by service', unit.perSecond, [[`topk(10, ${rate('total_errors_per_service', svc)})`, '{{instance}} {{service}}']]),
    series('Errors by kind', unit.perSecond, [
      [`${rate('pollux_connection_errors_total')} > 0`, '{{instance}} {{error}}'],
      [`${rate('pollux_refused_requests_total')} > 0`, '{{instance}} refused: {{reason}}'],
    ]),
    stacked('Share of all traffic', unit.ratio, [[`total_load_dists_per_service${svc}`, '{{instance}} {{service}}']], 'Of the last whole metrics.distribution_tick.'),
    series('Peak to average', unit.count, [[`rps_1m_peak${svc} / (rps_1m_avg${svc} > 0)`, '{{instance}} {{service}}']], 'Of the last minute. 1: perfectly even.'),
  ],
  Endpoints: [
    rows(
      'Endpoints',
      [`pollux_endpoint_up${svc}`, `increase(pollux_endpoint_flaps_total${svc}[1h])`],
      { instance: ['Engine'], service: ['Service'], endpoint: ['Endpoint'], 'Value #A': ['Up'], 'Value #B': ['Flaps in an hour'] },
    ),
    stacked('Endpoints by state', unit.count, [[`sum by (service, state) (pollux_service_endpoints${svc})`, '{{service}} {{state}}']]),
    series('Traffic by endpoint', unit.bits, [[`${rate('endpoint_traffic_bytes', ep)} * 8`, '{{service}} {{dip}}']]),
    series('Share of the service', unit.ratio, [[`endpoint_load_dists_per_service${ep}`, '{{service}} {{dip}}']], 'Of the last whole metrics.distribution_tick.'),
    series(
      'Handshakes',
      unit.seconds,
      [0.5, 0.95].map((share): [string, string] => [
        `histogram_quantile(${share}, sum by (service, le) (rate(pollux_handshake_seconds_bucket${svc}[$__rate_interval])))`,
        `{{service}} ${share}`,
      ]),
      'From SYN to SYN-ACK, or INIT to INIT ACK, as the engine saw them: half of the handshakes and 95 % of them took no longer.',
    ),
    series('Handshakes by endpoint', unit.seconds, [[`${rate('pollux_handshake_seconds_total', ep)} / (${rate('pollux_handshakes_total', ep)} > 0)`, '{{service}} {{dip}}']], 'Mean time from SYN to SYN-ACK, or INIT to INIT ACK, as the engine saw them: the way to the endpoint and back, and its kernel.'),
    series('Unevenness', unit.count, [[`stddev by (service) (endpoint_load_dists_per_service${svc}) * count by (service) (endpoint_load_dists_per_service${svc})`, '{{service}}']], 'Coefficient of variation of the endpoints’ shares: 0: all alike. Weights count as unevenness.'),
    series('Probes by result', unit.perSecond, [[rate('pollux_probes_total'), '{{instance}} {{kind}} {{result}}']]),
    series('Probes: 95th percentile', unit.seconds, [[`histogram_quantile(0.95, sum by (service, endpoint, le) (rate(pollux_probe_seconds_bucket${svc}[5m])))`, '{{service}} {{endpoint}}']]),
  ],
});

const pairs = `sum by (sip, dip) (rate(lb_rule_interaction_bytes${ep}[1m]))`;
const top = `topk(50, ${pairs} > 0)`;
const label = (inner: string, to: string, from: string) => `label_replace(${inner}, "${to}", "$1", "${from}", "(.*)")`;

export const flows = page(
  'pollux-flows',
  'Pollux / Flow analysis',
  'Clients and endpoints, pair by pair. Clients without a series of their own are «other», per endpoint (metrics.flow_series_limit).',
  ['service', 'endpoint'],
  {
    'Who talks to whom': [
      matrix('Clients by endpoints', unit.bytesPerSecond, `topk(200, ${pairs} > 0)`, 'sip', 'dip', 'Bytes a second, the 200 busiest pairs.'),
      graph(
        'Clients and endpoints',
        unit.bytesPerSecond,
        `label_join(${label(label(top, 'source', 'sip'), 'target', 'dip')}, "id", " → ", "sip", "dip")`,
        [
          label(label(`sum by (sip) (${top})`, 'id', 'sip'), 'title', 'sip'),
          label(label(`sum by (dip) (${top})`, 'id', 'dip'), 'title', 'dip'),
        ].join('\n  or\n'),
        'The 50 busiest pairs; an edge is as heavy as its bytes a second.',
      ),
    ],
    Flows: [
      rows(
        'Flow table',
        [`sum by (service, sip, dip) (rate(lb_rule_interaction_bytes${ep}[1m])) > 0`, `sum by (service, sip, dip) (rate(lb_rule_interaction_packets${ep}[1m])) > 0`],
        {
          service: ['Service'],
          sip: ['Client'],
          dip: ['Endpoint'],
          'Value #A': ['Bandwidth', unit.bytesPerSecond],
          'Value #B': ['Packet rate', unit.packets],
          size: ['Average packet size', unit.bytes],
        },
        [{ id: 'calculateField', options: { mode: 'binary', alias: 'size', binary: { left: 'Value #A', operator: '/', right: 'Value #B' } } }],
        'Bandwidth',
      ),
      series('Top 20 flows by bandwidth', unit.bytesPerSecond, [[`topk(20, rate(lb_rule_interaction_bytes${ep}[1m]))`, '{{sip}} → {{dip}}']]),
      series('Top 20 flows by packets', unit.packets, [[`topk(20, rate(lb_rule_interaction_packets${ep}[1m]))`, '{{sip}} → {{dip}}']]),
      series('Packet size of the 10 busiest flows', unit.bytes, [
        [`rate(lb_rule_interaction_bytes${ep}[1m]) / (rate(lb_rule_interaction_packets${ep}[1m]) > 0) and topk(10, rate(lb_rule_interaction_bytes${ep}[1m]))`, '{{sip}} → {{dip}}'],
      ]),
      series('Active pairs', unit.count, [[`count by (service) (rate(lb_rule_interaction_bytes${ep}[1m]) > 0)`, '{{service}}']], 'Pairs that have exchanged anything in the last minute; not connections.'),
    ],
    Clients: [
      bars('Top 15 clients by share of the bytes', unit.ratio, [
        `topk(15, sum by (sip) (rate(lb_rule_interaction_bytes${svc}[5m])) / on () group_left () sum(rate(lb_rule_interaction_bytes${svc}[5m])))`,
        '{{sip}}',
      ]),
      bars('Top 15 clients by packets', unit.packets, [`topk(15, sum by (sip) (rate(client_traffic_packets${svc}[5m])))`, '{{sip}}']),
      bars('Endpoints against their average', unit.count, [
        `sum by (dip) (rate(lb_rule_interaction_bytes${ep}[5m])) / on () group_left () avg(sum by (dip) (rate(lb_rule_interaction_bytes${ep}[5m])))`,
        '{{dip}}',
      ], '1: as much as the others; above 2 EndpointOverloaded fires.'),
      series('Clients with a series', unit.count, [
        [`pollux_flow_series${of}`, '{{instance}}'],
        [`pollux_flow_series_limit${of}`, '{{instance}} limit'],
      ]),
    ],
  },
);

export const security = page('pollux-security', 'Pollux / Firewall and security', 'What was kept out, and why.', [], {
  Firewall: [
    number('Rules', unit.count, `firewall_rules_count${of}`),
    number('Dropped since the start', unit.count, `total_fw_drops${of}`),
    number('Dropped now', unit.packets, rate('total_fw_drops')),
    series('Drops by rule', unit.packets, [[rate('total_fw_drops_per_rule'), '{{instance}} {{fw_rule}}']]),
    bars('Top 10 rules', unit.count, [`topk(10, total_fw_drops_per_rule${of})`, '{{instance}} {{fw_rule}}'], 'Since the start.'),
  ],
  'Signs of an attack': [
    series('New connections', unit.perSecond, [[rate('pollux_connections_total'), '{{instance}}']]),
    series('Half-open connections', unit.count, [[`sum by (instance, protocol) (pollux_conntrack_entries{instance=~"$instance", state="half_open"})`, '{{instance}} {{protocol}}']]),
    series('Handshakes that fail', unit.perSecond, [[`rate(pollux_connection_errors_total{instance=~"$instance", error=~"handshake.*"}[$__rate_interval])`, '{{instance}} {{error}}']]),
    series('Packets nobody asked for', unit.packets, [[`rate(pollux_dropped_packets_total{instance=~"$instance", reason=~"no_service|unknown_connection|martian_.*|tcp_flags|tcp_state"}[$__rate_interval])`, '{{instance}} {{reason}}']]),
    series('Small packets: pairs over 10 000 a second', unit.packets, [
      [`rate(lb_rule_interaction_packets${of}[1m]) > 10000 and (rate(lb_rule_interaction_bytes${of}[1m]) / rate(lb_rule_interaction_packets${of}[1m])) < 100`, '{{sip}} → {{dip}}'],
    ]),
    series('Average packet', unit.bytes, [[`${rate('processed_bytes_total')} / (${rate('processed_packets_total')} > 0)`, '{{instance}}']]),
  ],
});

export const engine = page('pollux-engine', 'Pollux / Engine', 'Where packets went, and what the workers, buffers and ports do.', [], {
  'Where packets went': [
    series('Received and sent', unit.packets, [
      [rate('pollux_rx_packets_total'), '{{instance}} received'],
      [rate('pollux_tx_packets_total'), '{{instance}} sent'],
    ]),
    stacked('Verdicts', unit.packets, [
      ...(['forwarded', 'punted', 'consumed'] as const).map((verdict) => [`sum(${rate(`pollux_${verdict}_packets_total`)})`, verdict] as const),
      [`sum(${rate('pollux_dropped_packets_total')})`, 'dropped'],
    ], 'What became of received packets.'),
    series('Drops by reason', unit.packets, [[`${rate('pollux_dropped_packets_total')} > 0`, '{{instance}} {{reason}}']], 'docs/operations.md says what each means.'),
    series('Of its own', unit.packets, [
      [rate('pollux_originated_packets_total'), '{{instance}} originated'],
      [rate('pollux_injected_packets_total'), '{{instance}} from the kernel'],
      [rate('pollux_extra_fragments_total'), '{{instance}} fragments'],
      [rate('pollux_tx_dropped_packets_total'), '{{instance}} refused by a TX queue'],
    ]),
    series('Waiting', unit.count, [
      [`pollux_held_packets${of}`, '{{instance}} for a next hop or a fragment'],
      [`pollux_handoff_ring_packets${of}`, '{{instance}} in rings'],
    ]),
    series('Handed to another worker', unit.ratio, [[`${rate('pollux_handoff_packets_total')} / (${rate('pollux_rx_packets_total')} > 0)`, '{{instance}}']], 'Per packet received: high where the NIC’s RSS does not match.'),
  ],
  Workers: [
    series('Busy', unit.ratio, [[`pollux_worker_busy_ratio${of}`, '{{instance}} {{worker}}']]),
    series('Busy polls', unit.ratio, [[`${rate('pollux_worker_busy_polls_total')} / (${rate('pollux_worker_polls_total')} > 0)`, '{{instance}} {{worker}}']]),
    series('Work a packet', unit.seconds, [[`sum by (instance) (${rate('pollux_worker_busy_seconds_total')}) / (sum by (instance) (${rate('pollux_rx_packets_total')}) > 0)`, '{{instance}}']]),
    series('Packet buffers in use', unit.ratio, [[`pollux_mempool_buffers_in_use${of} / pollux_mempool_buffers${of}`, '{{instance}} {{pool}}']]),
  ],
  Latency: [
    series('Packets in the engine', unit.seconds, [[`last_over_time(pollux_packet_residence_quantile_seconds${of}[5m])`, '{{instance}} {{quantile}}']], 'From the read of the RX queue to the TX burst, of the last tick that had packets; one burst in 16 is timed.'),
    series('Packets in the engine: 99th percentile of 5 minutes', unit.seconds, [[`histogram_quantile(0.99, sum by (instance, le) (rate(pollux_packet_residence_seconds_bucket${of}[5m])))`, '{{instance}}']]),
    series('Bursts', unit.seconds, [[`last_over_time(pollux_burst_quantile_seconds${of}[5m])`, '{{instance}} {{quantile}}']], 'How long turns of the poll loop with packets took, of the last tick that had some.'),
    series('Bursts: mean', unit.seconds, [[`${rate('pollux_burst_seconds_sum')} / (${rate('pollux_burst_seconds_count')} > 0)`, '{{instance}}']]),
  ],
  Ports: [
    series('Received', unit.bits, [[`${rate('pollux_port_rx_bytes_total')} * 8`, '{{instance}} {{port}}']], 'Ethernet header included.'),
    series('Sent', unit.bits, [[`${rate('pollux_port_tx_bytes_total')} * 8`, '{{instance}} {{port}}']]),
    series('Lost at the port', unit.packets, [
      [rate('pollux_port_rx_missed_packets_total'), '{{instance}} {{port}} queues full'],
      [rate('pollux_port_rx_no_mbuf_packets_total'), '{{instance}} {{port}} no buffer'],
      [rate('pollux_port_rx_errors_total'), '{{instance}} {{port}} broken'],
      [rate('pollux_port_tx_dropped_packets_total'), '{{instance}} {{port}} TX queue full'],
      [rate('pollux_port_tx_errors_total'), '{{instance}} {{port}} TX failed'],
    ]),
    series('Link', unit.count, [[`pollux_port_up${of}`, '{{instance}} {{port}}']]),
  ],
  'Configuration and snapshot': [
    number('Generation', unit.count, `pollux_config_generation${of}`),
    number('Last reload', unit.count, `pollux_config_last_reload_successful${of}`, [0.5, 1, true], '1: applied. 0: refused, and the old one runs on.'),
    number('Up', unit.seconds, `time() - ${own('process_start_time_seconds')}`),
    number('Tick', unit.seconds, `pollux_tick_duration_seconds${of}`, [0.25, 1], 'How long making a snapshot took.'),
    number('Certificate ends in', unit.seconds, `pollux_certificate_expiry_timestamp_seconds${of} - time()`, [7 * 86400, 14 * 86400, true], 'Of the metrics’ listener; empty without TLS.'),
    number('Memory', unit.bytes, own('process_resident_memory_bytes')),
    number('Open files', unit.count, own('process_open_fds')),
    rows('Versions', [`pollux_build_info${of}`], { instance: ['Engine'], version: ['Version'], dpdk: ['DPDK'], arch: ['Architecture'], Value: [''] }),
  ],
});

export const capacity = page('pollux-capacity', 'Pollux / Capacity and LCU', 'How much room there is, and when it ends.', [], {
  Capacity: [
    number('Connection table', unit.ratio, fill, [0.7, 0.9]),
    number('Room for connections', unit.count, `pollux_conntrack_capacity${of} - on (job, instance) ${entries}`),
    number('Full in', unit.seconds, `(pollux_conntrack_capacity${of} - on (job, instance) ${entries}) / on (job, instance) (deriv(active_conntrack_count${of}[1h]) > 0)`, [3600, 86400, true], 'If it goes on as in the last hour; empty while connections do not grow.'),
    number('Busiest worker', unit.ratio, `max by (instance) (pollux_worker_busy_ratio${of})`, [0.7, 0.9]),
    number('CPU headroom', unit.percent, `100 - system_cpu_utilization${of}`, [10, 30, true]),
    number('Services', unit.count, `lb_rule_count${of}`),
    series('Connection table', unit.count, [
      [`sum by (instance, state) (pollux_conntrack_entries${of})`, '{{instance}} {{state}}'],
      [`pollux_conntrack_capacity${of}`, '{{instance}} capacity'],
    ]),
    series('Refused for want of room', unit.perSecond, [[`rate(pollux_refused_requests_total{instance=~"$instance", reason=~"table_full|no_snat_port"}[$__rate_interval])`, '{{instance}} {{reason}}']]),
    series('SNAT ports', unit.count, [[`sum by (instance, state) (pollux_snat_ports${of})`, '{{instance}} {{state}}']], 'Full NAT only.'),
    series('Traffic', unit.bits, [[`${rate('processed_bytes_total')} * 8`, '{{instance}}']]),
  ],
  LCU: [
    number('LCUs', unit.count, `consumed_lcus${of}`, undefined, 'active connections / 2 160 000 + services / 1000 + Gbit/s / 3600'),
    series('LCUs', unit.count, [[`consumed_lcus${of}`, '{{instance}}']]),
    stacked('What they come of', unit.count, [
      [`sum(active_conntrack_count${of}) / 2160000`, 'connections'],
      [`sum(lb_rule_count${of}) / 1000`, 'services'],
      [`sum(rps_bps${of}) * 8 / 1e9 / 3600`, 'traffic'],
    ]),
    rows(
      'For a bill',
      [`increase(total_requests${of}[24h])`, `increase(processed_bytes_total${of}[24h])`, `avg_over_time(consumed_lcus${of}[24h])`, `max_over_time(consumed_lcus${of}[24h])`],
      {
        instance: ['Engine'],
        'Value #A': ['Requests in 24 h', unit.count],
        'Value #B': ['Bytes in 24 h', unit.bytes],
        'Value #C': ['LCUs, average', unit.count],
        'Value #D': ['LCUs, most', unit.count],
      },
      [],
      undefined,
      'Extrapolated to whole days; «Inspect, Data» downloads it as CSV.',
    ),
  ],
});
