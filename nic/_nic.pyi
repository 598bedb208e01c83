from typing import Any

# cffi's objects; what lib offers is declared in nic/api.h.
ffi: Any
lib: Any
