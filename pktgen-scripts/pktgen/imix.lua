-- A steady mix of sizes: the simple IMIX, 7 × 64, 4 × 594, 1 × 1518 bytes (RFC 6985 names it by these), at one rate.
--
-- POLLUX_RATE     percent of the link (50)
-- POLLUX_SECONDS  (60)

package.path = package.path .. ";" .. debug.getinfo(1, "S").source:sub(2):match("^(.-)[^/]*$") .. "?.lua"
local common = require("common")

local mix = { 64, 594, 64, 64, 594, 64, 1518, 64, 594, 64, 64, 594 }
local seconds = common.number("SECONDS", 60)

common.prepare("udp", 64)
for index, size in ipairs(mix) do
  -- A client of its own for each packet of the sequence.
  pktgen.seqTable(index - 1, common.client, {
    eth_dst_addr = common.mac ~= "" and common.mac or nil,
    ip_dst_addr = common.vip,
    ip_src_addr = common.address(common.first_client, index - 1) .. "/32",
    sport = 10000 + index,
    dport = common.udp_port,
    ethType = "ipv4",
    ipProto = "udp",
    vlanid = 1,
    pktSize = size,
    tcp_flags = "ack",
  })
end
pktgen.set(common.client, "seq_cnt", #mix)
local sent, received = common.trial(common.number("RATE", 50), seconds)
common.report("imix", { sent = sent, received = received, mpps = received / seconds / 1e6, loss = common.loss(sent, received) })
os.exit(0)
