-- What a script starts must not find SIGPIPE ignored, as the program around us does: pipelines would not end when nobody reads them.

local ffi = require("ffi")
local SIGPIPE = 13

-- By a name of our own: a script may declare `signal` otherwise.
ffi.cdef('void (*dunnage_signal(int, void (*)(int)))(int) __asm__("signal");')
ffi.C.dunnage_signal(SIGPIPE, nil)
