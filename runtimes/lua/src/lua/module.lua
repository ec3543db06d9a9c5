-- What `require "dunnage"` returns.

local failure, array, native = ...
local raise, signal = failure.raise, failure.signal
local setmetatable, tostring, type = setmetatable, tostring, type

local dunnage = {
  array = array.new,
  null = native.null,
}

--- A string that the state keeps as bytes, even where it would pass for text.
function dunnage.bytes(text)
  if type(text) ~= "string" then
    raise("bytes are made from a string, not a " .. type(text))
  end
  return native.bytes(text)
end

--- A new empty list. As JSON it is `[]`, where a plain empty table is `{}`.
function dunnage.empty_array()
  return setmetatable({}, native.array_metatable)
end

--- Ends the call; the job is tried again, after so many seconds if they are given.
function dunnage.retry(message, after)
  if after ~= nil and not (type(after) == "number" and after >= 0) then
    raise("`retry` wants a message and, if need be, a number of seconds")
  end
  signal("script_retry", message == nil and "the script asks to be tried again" or tostring(message), after)
end

--- Ends a call that was cancelled.
function dunnage.cancelled()
  signal("script_cancelled", "the script has stopped because the call was cancelled")
end

return dunnage
