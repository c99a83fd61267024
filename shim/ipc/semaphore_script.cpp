// The one script behind every semaphore.
//
// KEYS[1] semaphores, a hash:
//   ''         placeholder: the session is there
//   'c'object  count; negative: that many wait
//   's'host    number of the host's last operation
//   'r'host    ';number=result;number=result;' for results other than 0 that the host may ask for again
//   't'        last ticket
// KEYS[2] waiters, a sorted set with equal scores, hence ordered by bytes:
//   object (16 hex digits), ticket (16 hex digits), host ':' waiter ':' grant message
//   A semaphore's queue is a range of it, the oldest first.
// KEYS[3] names, a hash: 'n'name -> object ':' mode
//
// Results are texts: '0', an errno value, '1' for a cancelled wait, 'object:mode:created' for an opened name.
#include "shim/ipc/semaphores.h"

namespace elsewhere::ipc {
namespace {

constexpr std::string_view kBody = R"lua(-- elsewhere semaphore 1
-- ARGV: operation, host, number, oldest unanswered number, object, then
--   create: value     wait, try: waiter, grant     cancel: waiter     forget: dead host
--   open: name, create (0 or 1), exclusive (0 or 1), mode, value      unlink: name
local operation, host, number, object = ARGV[1], ARGV[2], ARGV[3], ARGV[5]
local state = redis.call('HMGET', KEYS[1], '', 's' .. host, 'c' .. object, 'r' .. host)
if not state[1] then return redis.error_reply('NOSESSION the session is gone') end
local last = tonumber(state[2] or '0')
local count = state[3] and tonumber(state[3])
local remembered = state[4] or ';'
if not last or (state[3] and not count) then
  return redis.error_reply('MALFORMED ' .. KEYS[1] .. ' holds no number for ' .. object)
end
if tonumber(number) <= last then
  return string.match(remembered, ';' .. number .. '=([^;]*);') or '0'
end
if tonumber(number) ~= last + 1 then return redis.error_reply('EARLY operation ' .. number) end

local changes = {'s' .. host, number}
local function set_count(name, value)
  changes[#changes + 1] = 'c' .. name
  changes[#changes + 1] = string.format('%d', value)
end
local function deliver(to, message)
  -- The inboxes are named like KEYS[1]; the field is the header of an unnumbered entry by a script.
  return redis.call('XADD', string.sub(KEYS[1], 1, -11) .. 'inbox:' .. to, 'NOMKSTREAM', '*',
                    '\255\255\255\255\0\0\0\0\0\0\0\0', message)
end
local function queue(limit)
  return redis.call('ZRANGEBYLEX', KEYS[2], '[' .. object, '[' .. object .. 'g', 'LIMIT', 0, limit)
end

local result = '0'
if operation == 'post' then
  if not count then
    result = '22'
  elseif count >= 2147483647 then
    result = '75'
  else
    local pending = true
    while pending and count < 0 do
      local oldest = queue(1)[1]
      if not oldest then return redis.error_reply('MALFORMED ' .. KEYS[2] .. ' misses a waiter of ' .. object) end
      redis.call('ZREM', KEYS[2], oldest)
      count = count + 1
      local to, start = string.match(oldest, '^(%d+):%d+:()', 33)
      -- A host that has left has no inbox; its waiter is skipped.
      if to and deliver(to, string.sub(oldest, start)) then pending = false end
    end
    if pending then count = count + 1 end
    set_count(object, count)
  end
elseif operation == 'wait' or operation == 'try' then
  if not count then
    result = '22'
  elseif count > 0 then
    if deliver(host, ARGV[7]) then set_count(object, count - 1) else result = '3' end
  elseif operation == 'try' then
    result = '11'
  else
    local ticket = redis.call('HINCRBY', KEYS[1], 't', 1)
    redis.call('ZADD', KEYS[2], 0,
               object .. string.format('%016x', ticket) .. host .. ':' .. ARGV[6] .. ':' .. ARGV[7])
    set_count(object, count - 1)
  end
elseif operation == 'cancel' then
  local wanted = host .. ':' .. ARGV[6] .. ':'
  for _, waiting in ipairs(queue(-1)) do
    if string.sub(waiting, 33, 32 + #wanted) == wanted then
      redis.call('ZREM', KEYS[2], waiting)
      set_count(object, count + 1)
      result = '1'
      break
    end
  end
elseif operation == 'create' then
  if count then result = '17' else set_count(object, tonumber(ARGV[6])) end
elseif operation == 'destroy' then
  if count then
    redis.call('HDEL', KEYS[1], 'c' .. object)
    for _, waiting in ipairs(queue(-1)) do redis.call('ZREM', KEYS[2], waiting) end
  else
    result = '22'
  end
elseif operation == 'forget' then
  for _, waiting in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
    if string.match(waiting, '^(%d+):', 33) == ARGV[6] then
      redis.call('ZREM', KEYS[2], waiting)
      redis.call('HINCRBY', KEYS[1], 'c' .. string.sub(waiting, 1, 16), 1)
    end
  end
elseif operation == 'open' then
  local field = 'n' .. ARGV[6]
  local known = redis.call('HGET', KEYS[3], field)
  if known then
    result = ARGV[8] == '1' and ARGV[7] == '1' and '17' or known .. ':0'
  elseif ARGV[7] == '0' then
    result = '2'
  else
    redis.call('HSET', KEYS[3], field, object .. ':' .. ARGV[9])
    set_count(object, tonumber(ARGV[10]))
    result = object .. ':' .. ARGV[9] .. ':1'
  end
elseif operation == 'unlink' then
  if redis.call('HDEL', KEYS[3], 'n' .. ARGV[6]) == 0 then result = '2' end
end

if result ~= '0' then
  local kept = ';'
  for old, text in string.gmatch(remembered, '(%d+)=([^;]*);') do
    if tonumber(old) >= tonumber(ARGV[4]) then kept = kept .. old .. '=' .. text .. ';' end
  end
  changes[#changes + 1] = 'r' .. host
  changes[#changes + 1] = kept .. number .. '=' .. result .. ';'
end
redis.call('HSET', KEYS[1], unpack(changes))
return result
)lua";

}  // namespace

const broker::Script& SemaphoreScript() {
  static const broker::Script script(kBody);
  return script;
}

}  // namespace elsewhere::ipc
