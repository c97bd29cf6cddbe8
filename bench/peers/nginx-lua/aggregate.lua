-- GET /fanout/N: N upstreams at once, their answers decoded and encoded as one object.
local cjson = require "cjson.safe"

local count, args = tonumber(ngx.var[1]), ngx.var.args
local calls = {}
for service = 0, count - 1 do
  calls[service + 1] = { "/s/" .. service, { args = args } }
end

local answers = { ngx.location.capture_multi(calls) }
local merged, arrived = {}, 0
for index, answer in ipairs(answers) do
  local value = answer.status == 200 and not answer.truncated and cjson.decode(answer.body)
  if value then
    merged["s" .. (index - 1)] = value
    arrived = arrived + 1
  end
end

local body = cjson.encode(merged)
if arrived == 0 then
  ngx.status = 502
end
ngx.header["X-Completed"] = arrived == count and "true" or "false"
ngx.header["Content-Length"] = #body
ngx.print(body)
