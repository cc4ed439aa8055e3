"""The published builds of DeepSeek V4 Flash: plain facts, no I/O.

Source: the Hugging Face repository antirez/deepseek-v4-gguf; file names, exact sizes and the SHA-256 that the hub keeps
for each file (docs/builds.md says where each was read). Every build holds the main network only. Attention, shared
experts and the output head are Q8_0, the rest but the routed experts F16 or F32; the names speak of the routed experts.
"""

from __future__ import annotations

from dataclasses import dataclass

REPOSITORY = "antirez/deepseek-v4-gguf"
NEWEST = "0731"


@dataclass(frozen=True, slots=True)
class Build:
    """One published file. `sha256` is None where it is not known beforehand: then the hub's own word is taken."""

    name: str
    file: str
    nbytes: int
    sha256: str | None
    dialect: str
    about: str
    repository: str = REPOSITORY
    cache_simulation: bool = True


_Q2 = "DeepSeek-V4-Flash-IQ2XXS-w2Q2K-AProjQ8-SExpQ8-OutQ8-chat-v2"
_Q4 = "DeepSeek-V4-Flash-Q4KExperts-F16HC-F16Compressor-F16Indexer-Q8Attn-Q8Shared-Q8Out-chat-v2"
_MIXED = (
    "DeepSeek-V4-Flash-Layers37-42Q4KExperts-OtherExpertLayersIQ2XXSGateUp-Q2KDown-"
    "AProjQ8-SExpQ8-OutQ8-chat-v2-imatrix-fixed"
)
_MXFP4 = "DeepSeek-V4-Flash-MXFP4Experts-F16HC-F16Compressor-F16Indexer-Q8Attn-Q8Shared-Q8Out-chat-v2-mxfp4"

# Best first: `download` without a name takes the first of the 0731 ones that fits the machine.
FLASH = (
    Build(
        name="mxfp4",
        file=f"{_MXFP4}-0731.gguf",
        nbytes=155_976_458_848,
        sha256="0e3a161b670f686128ec5f92a601dfde616a37bf5e7e48999fa2d32471b57ec6",
        dialect="0731",
        about="the experts as released, MXFP4",
    ),
    Build(
        name="q4",
        file=f"{_Q4}-imatrix-0731.gguf",
        nbytes=164_633_502_592,
        sha256="6bb77b5ddcbc2d974c687cfb63d644ecfb295581b4a53fa4c1d810aea538254a",
        dialect="0731",
        about="Q4_K experts, imatrix",
    ),
    Build(
        name="q2-q4",
        file=f"{_MIXED}-0731.gguf",
        nbytes=97_591_747_456,
        sha256="659e22fbd01c9e13ea37a57c8d9c41e0a8819dffa3473d3c5286ee44b2d3398f",
        dialect="0731",
        about="2-bit experts, Q4_K in the last 6 layers, imatrix",
    ),
    Build(
        name="q2",
        file=f"{_Q2}-imatrix-0731.gguf",
        nbytes=86_720_111_488,
        sha256="ca22ae2f838e14077c22bc1c1417b71b45b5e5a3687bd96c2ac6e17fdb6261c0",
        dialect="0731",
        about="IQ2_XXS gate and up, Q2_K down, imatrix",
    ),
    Build(
        name="q4-preview",
        file=f"{_Q4}-imatrix.gguf",
        nbytes=164_633_502_592,
        sha256="a2a3b31eca06344b93d32b2095511c4d36f92739a68a599b22047b4b2335d859",
        dialect="preview",
        about="q4 of the preview checkpoint",
    ),
    Build(
        name="q2-q4-preview",
        file=f"{_MIXED}.gguf",
        nbytes=97_591_747_456,
        sha256="edabc92af63ad8b139f00087fbfc10a4072f37b7597f4fd9ad1dfa6f83002396",
        dialect="preview",
        about="q2-q4 of the preview checkpoint",
    ),
    Build(
        name="q2-preview",
        file=f"{_Q2}-imatrix.gguf",
        nbytes=86_720_111_488,
        sha256="efc7ed607ff27076e3e501fc3fefefa33c0ed8cf1eff483a2b7fdc0c2e616668",
        dialect="preview",
        about="q2 of the preview checkpoint",
    ),
    Build(
        name="q4-preview-plain",
        file=f"{_Q4}.gguf",
        nbytes=164_633_502_304,
        sha256="39e5de72ac544fdd5ffaf83ec28e36aaf3341b145235488e67d59400bbb3af55",
        dialect="preview",
        about="q4-preview without imatrix",
    ),
    Build(
        name="q2-preview-plain",
        file=f"{_Q2}.gguf",
        nbytes=86_720_111_200,
        sha256="31598c67c8b8744d3bcebcd19aa62253c6dc43cef3b8adf9f593656c9e86fd8c",
        dialect="preview",
        about="q2-preview without imatrix",
    ),
)
