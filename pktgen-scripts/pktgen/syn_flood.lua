-- SYNs from random sources: every one asks for a new connection that is never finished. Run it beside clients of
-- another generator: theirs must not suffer.
--
-- POLLUX_RATE     percent of the link (10)
-- POLLUX_SECONDS  (30)

package.path = package.path .. ";" .. debug.getinfo(1, "S").source:sub(2):match("^(.-)[^/]*$") .. "?.lua"
local common = require("common")

local seconds = common.number("SECONDS", 30)
common.prepare("tcp", 64)
pktgen.set_tcp_flags(common.client, "syn")
pktgen.rnd_s_ip(common.client, "on")
pktgen.rnd_s_pt(common.client, "on")
local sent, received = common.trial(common.number("RATE", 10), seconds)
pktgen.rnd_s_ip(common.client, "off")
pktgen.rnd_s_pt(common.client, "off")
common.report("syn_flood", { sent = sent, forwarded = received, mpps = sent / seconds / 1e6 })
os.exit(0)
