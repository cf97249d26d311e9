-- What the runs share: their parameters, the two ports, and counters read alike from old and new Pktgen-DPDK.
--
-- Pktgen gives a script no arguments: parameters come from the environment, POLLUX_<NAME>.

local common = {}

-- The number POLLUX_<name>, else `default`. Anything else than a number ends the run: a typing error must not
-- become a measurement.
function common.number(name, default)
  local text = os.getenv("POLLUX_" .. name)
  if text == nil or text == "" then return default end
  local value = tonumber(text)
  if value == nil then error("POLLUX_" .. name .. " is no number: " .. text) end
  return value
end

-- The text POLLUX_<name>, else `default`.
function common.text(name, default)
  local text = os.getenv("POLLUX_" .. name)
  if text == nil or text == "" then return default end
  return text
end

common.client = common.text("CLIENT_PORT", "0") -- the generator's port on Pollux' client side
common.server = common.text("SERVER_PORT", "1") -- and on its server side
common.mac = common.text("MAC", "") -- Pollux' MAC on the client side, as `pollux ports` shows it
common.vip = common.text("VIP", "203.0.113.100")
common.udp_port = common.number("UDP_PORT", 53)
common.tcp_port = common.number("TCP_PORT", 80)
common.first_client = common.text("FIRST_CLIENT", "16.0.0.1")

-- The IPv4 address `n` further.
function common.address(first, n)
  local a, b, c, d = first:match("^(%d+)%.(%d+)%.(%d+)%.(%d+)$")
  if a == nil then error("no IPv4 address: " .. first) end
  local value = ((a * 256 + b) * 256 + c) * 256 + d + n
  return string.format("%d.%d.%d.%d", value // 16777216 % 256, value // 65536 % 256, value // 256 % 256, value % 256)
end

-- Received and sent packets of a port. portStats took a second argument up to 25.x and gave the counters at the top level.
function common.counters(port)
  local ok, stats = pcall(pktgen.portStats, port)
  if not ok then stats = pktgen.portStats(port, "port") end
  local of_port = stats[tonumber(port)]
  local now = of_port.curr or of_port
  return now.ipackets, now.opackets
end

-- A clean start: nothing runs, counters at 0, the single packet of the client side addressed to the service.
function common.prepare(protocol, size)
  pktgen.stop("all")
  pktgen.reset("all")
  pktgen.screen("off")
  pktgen.set_type("all", "ipv4")
  pktgen.set_proto(common.client, protocol)
  pktgen.set(common.client, "size", size)
  pktgen.set(common.client, "dport", protocol == "udp" and common.udp_port or common.tcp_port)
  pktgen.set_ipaddr(common.client, "src", common.first_client .. "/32")
  pktgen.set_ipaddr(common.client, "dst", common.vip)
  if common.mac ~= "" then pktgen.set_mac(common.client, "dst", common.mac) end
end

local function gcd(a, b)
  while b ~= 0 do a, b = b, a % b end
  return a
end

-- Client addresses and ports for at least `flows` different tuples. A range steps address and port together with each
-- packet: all combinations come only where the two lengths have no common divisor.
function common.tuples(flows)
  local ports = math.min(64511, flows) -- 1024 to 65534
  local clients = (flows + ports - 1) // ports
  while gcd(clients, ports) ~= 1 do clients = clients + 1 end
  return clients, ports
end

-- Makes the client side send a range of `flows` tuples, one after the other.
function common.range(protocol, size, flows)
  local port = common.client
  local clients, ports = common.tuples(flows)
  local last = common.address(common.first_client, clients - 1)
  local dport = protocol == "udp" and common.udp_port or common.tcp_port
  pktgen.range.ip_proto(port, protocol)
  if common.mac ~= "" then pktgen.range.dst_mac(port, "start", common.mac) end
  pktgen.range.src_ip(port, "start", common.first_client)
  pktgen.range.src_ip(port, "min", common.first_client)
  pktgen.range.src_ip(port, "max", last)
  pktgen.range.src_ip(port, "inc", clients > 1 and "0.0.0.1" or "0.0.0.0")
  pktgen.range.dst_ip(port, "start", common.vip)
  pktgen.range.dst_ip(port, "min", common.vip)
  pktgen.range.dst_ip(port, "max", common.vip)
  pktgen.range.dst_ip(port, "inc", "0.0.0.0")
  pktgen.range.src_port(port, "start", 1024)
  pktgen.range.src_port(port, "min", 1024)
  pktgen.range.src_port(port, "max", 1024 + ports - 1)
  pktgen.range.src_port(port, "inc", ports > 1 and 1 or 0)
  pktgen.range.dst_port(port, "start", dport)
  pktgen.range.dst_port(port, "min", dport)
  pktgen.range.dst_port(port, "max", dport)
  pktgen.range.dst_port(port, "inc", 0)
  for _, bound in ipairs({ "start", "min", "max" }) do
    pktgen.range.pkt_size(port, bound, size)
  end
  pktgen.range.pkt_size(port, "inc", 0)
  pktgen.set_range(port, "on")
  return clients * ports
end

-- Sends for `seconds` at `rate` percent of the link; sent on the client side, received on the server side, elapsed seconds.
function common.trial(rate, seconds)
  pktgen.clear("all")
  pktgen.set(common.client, "rate", rate)
  pktgen.start(common.client)
  pktgen.delay(math.floor(seconds * 1000))
  pktgen.stop(common.client)
  pktgen.delay(1000) -- what is under way
  local _, sent = common.counters(common.client)
  local received = common.counters(common.server)
  return sent, received
end

-- One line of a result: key=value, for people and for scripts.
function common.report(run, fields)
  local keys = {}
  for key in pairs(fields) do keys[#keys + 1] = key end
  table.sort(keys)
  local parts = { run }
  for _, key in ipairs(keys) do parts[#parts + 1] = key .. "=" .. tostring(fields[key]) end
  print(table.concat(parts, " "))
end

-- The share of packets lost, 0 to 1.
function common.loss(sent, received)
  if sent == 0 then return 1 end
  return math.max(0, (sent - received) / sent)
end

return common
