from typing import Any

# cffi's objects; what lib offers is declared in bsdcore/api.h.
ffi: Any
lib: Any
