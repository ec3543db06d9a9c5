-- What scripts do in their worst moments. The case is named by `Params.case`, and while the script is loaded by the file
-- `on_load` beside it.

local ffi = require("ffi")
ffi.cdef([[
  void abort(void);
  void _exit(int status);
  unsigned sleep(unsigned seconds);
  int usleep(unsigned microseconds);
  int fork(void);
  int setsid(void);
  int waitpid(int pid, int *status, int options);
  void *signal(int number, void *handler);
  int pause(void);
  int pthread_create(unsigned long *thread, const void *attributes, void *start, void *argument);
  long write(int descriptor, const void *bytes, unsigned long count);
  int close(int descriptor);
  int chdir(const char *path);
  char *setlocale(int category, const char *name);
  struct limit { unsigned long current, maximum; };
  int setrlimit(int resource, const struct limit *limit);
  unsigned umask(unsigned mask);
  int clearenv(void);
]])
local C = ffi.C

local IGNORE = ffi.cast("void *", 1)
local SIGTERM, SIGCHLD = 15, 17
local OPEN_FILES = 7

local function write_all(descriptor, bytes)
  local sent = 0
  while sent < #bytes do
    local count = tonumber(C.write(descriptor, ffi.cast("const char *", bytes) + sent, #bytes - sent))
    if count < 0 then
      return
    end
    sent = sent + count
  end
end

local function every_byte()
  local bytes = {}
  for byte = 0, 255 do
    bytes[#bytes + 1] = string.char(byte)
  end
  return table.concat(bytes)
end

local cases = {
  nothing = function() end,
  exit = function() os.exit(0) end,
  hard_exit = function() C._exit(0) end,
  abort = function() C.abort() end,
  segfault = function() ffi.cast("int *", 0)[0] = 1 end,
  deaf = function()
    C.signal(SIGTERM, IGNORE)
    C.sleep(60)
  end,
  fork = function()
    if C.fork() == 0 then
      C.sleep(60)
      C._exit(0)
    end
  end,
  -- Leaves the session and the parent, as daemons do.
  daemon = function()
    local child = C.fork()
    if child == 0 then
      C.setsid()
      if C.fork() == 0 then
        C.sleep(60)
      end
      C._exit(0)
    end
    C.waitpid(child, nil, 0)
  end,
  -- Processes whose parent has ended, and which end a moment later.
  orphans = function()
    for _ = 1, 5 do
      os.execute("sleep 0.05 & :")
    end
  end,
  thread = function()
    C.pthread_create(ffi.new("unsigned long[1]"), nil, ffi.cast("void *", C.pause), nil)
  end,
  flood = function()
    local megabyte = string.rep("x", 2 ^ 20)
    for _ = 1, 100 do
      write_all(1, megabyte)
    end
  end,
  -- Short lines without end, from a process that goes on when the call has ended.
  chatter = function()
    os.execute("while :; do echo; done &")
  end,
  bytes = function()
    for _ = 1, 16 do
      write_all(1, string.rep(every_byte(), 16))
      write_all(2, string.rep(every_byte(), 16))
    end
  end,
  closed = function()
    C.close(1)
    print("unheard")
  end,
  unplug = function()
    for descriptor = 3, 1000 do
      C.close(descriptor)
    end
  end,
  children = function() os.execute("sleep 60 &") end,
  surroundings = function()
    C.chdir("/")
    C.setlocale(6, "C")
    C.setrlimit(OPEN_FILES, ffi.new("struct limit", 16, 16))
    C.umask(0)
    C.clearenv()
    C.signal(SIGCHLD, IGNORE)
  end,
  poison = function() error("CUDA error: device-side assert triggered") end,
  long = function()
    io.stderr:write("sleeping\n")
    C.usleep(4000000)
  end,
  sleep = function()
    io.stderr:write("sleeping\n")
    C.usleep(700000)
  end,
}

local on_load = io.open("on_load")
if on_load then
  local case = on_load:read("*a")
  on_load:close()
  cases[case]()
end

-- Writes on the connection to the server, past the runtime: at once, or by a child once the call is over.
local function say(message)
  local bytes = {}
  for index, byte in ipairs(message.bytes) do
    bytes[index] = string.char(byte)
  end
  if message.when == "now" then
    write_all(3, table.concat(bytes))
  elseif C.fork() == 0 then
    C.usleep(300000)
    write_all(3, table.concat(bytes))
    C._exit(0)
  end
end

local shared = {}

local function run(_, ctx)
  if ctx.params.share then
    -- Shared memory, held until the end.
    shared[#shared + 1] = assert(io.open("/dev/shm/" .. ctx.params.share, "w"))
  end
  if ctx.params.say then
    say(ctx.params.say)
  end
  cases[ctx.params.case or "nothing"]()
  return "it returned"
end

return {
  train = run,
  input = run,
  -- The number given, so that everybody knows the answer as their own.
  output = function(files, ctx)
    ctx.state:increment("calls", 1)
    if ctx.params.case == "huge" then
      local vector = {}
      for index = 1, 200000 do
        vector[index] = 0
      end
      return vector
    end
    if ctx.params.case == "calls" then
      return { ctx.state.calls }
    end
    C.usleep((ctx.params.seconds or 0) * 1000000)
    run(files, ctx)
    return { ctx.params.number or 0 }
  end,
}
