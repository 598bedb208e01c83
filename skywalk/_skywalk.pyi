from typing import Any

# cffi's objects; what lib offers is declared in skywalk/api.h and api_fsw.h.
ffi: Any
lib: Any
