"""Names the format of a file by its first bytes, for refusals. Pure.

What a sender calls it (its extension, its Content-Type) plays no part.
"""

import re

_LOOKED_AT = 1024  # bytes
_FTYP = re.compile(rb".{4}ftyp(.{4}).{4}((?:.{4})*)", re.DOTALL)  # ISO/IEC 14496-12, 4.3
_IMAGE_BRANDS = (  # major or compatible
    (rb"avi[fs]", "an AVIF image"),
    (rb"hei[cxms]|hev[cxms]", "a HEIC image"),
    (rb"mif1|msf1|miaf", "a HEIF image"),
)
_OTHER_BRANDS = (  # major
    (rb"crx ", "a camera RAW file (CR3)"),
    (rb"qt  ", "a QuickTime video"),
    (rb"M4[AB] ", "an audio file"),
    (rb"3g.{2}", "a 3GP video"),
    (rb".{4}", "an MP4 video"),
)
_SIGNATURES = (  # the first that fits
    (rb"\xff\xd8\xff\xf7", "a JPEG-LS image"),
    (rb"\xff\xd8", "a JPEG image"),
    (rb"\x89PNG\r\n\x1a\n", "a PNG image"),
    (rb"RIFF.{4}WEBP", "a WebP image"),
    (rb"GIF8[79]a", "a GIF image"),
    (rb"BM.{4}\0\0\0\0", "a BMP image"),
    (
        rb"[\x28\x6c\x7c]\0\0\0.{8}\x01\0[\x01\x04\x08\x10\x18\x20]\0",
        "a BMP without its file header",
    ),
    (rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
    (rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
    (rb"II\xbc\x01", "a JPEG XR image"),
    (rb"II\*\0.{4}CR|II(?:RO|RS|U\0)|MMOR|FUJIFILMCCD-RAW|\0MRM|FOVb", "a camera RAW file"),
    (rb"II[*+]\0|MM\0[*+]", "a TIFF image or a camera RAW file"),
    (rb"II\x1a\0\0\0HEAPCCDR", "a camera RAW file (CRW)"),
    (rb"8BPS", "a Photoshop file (PSD)"),
    (rb"gimp xcf", "a GIMP file"),
    (rb"\0\0\x01\0", "an ICO icon"),
    (rb"\0\0\x02\0[^\0]", "a CUR cursor"),
    (rb"RIFF.{4}ACON", "an animated cursor (ANI)"),
    (rb"FORM.{4}(?:ILBM|PBM )", "an IFF image"),
    (rb"SDPX|XPDS|\x80\x2a\x5f\xd7", "a DPX or Cineon image"),
    (rb"farbfeld", "a farbfeld image"),
    (rb"\xff\x10\xff\x50", "a JPEG XS image"),
    (rb"\x13\xab\xa1\x5c|PVR\x03|BLP[12]|VTF\0", "a texture of a game"),
    (rb"icns", "an ICNS icon"),
    (rb"qoif", "a QOI image"),
    (rb"FLIF", "a FLIF image"),
    (rb"BPG\xfb", "a BPG image"),
    (rb"[\x8a\x8b][MJ]NG\r\n\x1a\n", "an MNG or JNG image"),
    (rb"\x97JB2\r\n\x1a\n", "a JBIG2 image"),
    (rb"\x01\xda[\0\x01][\x01\x02]", "an SGI image"),
    (rb"\x59\xa6\x6a\x95", "a Sun raster image"),
    (rb"\xabKTX ", "a KTX texture"),
    (rb"/\* XPM \*/|#define \w+_width", "an XPM or XBM image"),
    (rb"DDS ", "a DDS texture"),
    (rb"\x76\x2f\x31\x01", "an OpenEXR image"),
    (rb"#\?(?:RADIANCE|RGBE)", "a Radiance HDR image"),
    (rb"SIMPLE  =", "a FITS image"),
    (rb".{128}DICM", "a DICOM image"),
    (rb"P[1-7Ff]\s", "a Netpbm image (PPM)"),
    (rb"\x0a[\0\x02-\x05]\x01[\x01\x02\x04\x08]", "a PCX image"),
    (rb"\xd7\xcd\xc6\x9a|\x01\0\x09\0\0\x03|\x01\0\0\0.{36} EMF", "a Windows metafile"),
    (rb"AT&TFORM", "a DjVu document"),
    (rb"\s*%PDF-", "a PDF document"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "an EPS or PostScript document"),
    (rb"\x1aE\xdf\xa3.{0,64}webm", "a WebM video"),
    (rb"\x1aE\xdf\xa3", "a Matroska video (MKV)"),
    (rb"RIFF.{4}AVI ", "an AVI video"),
    (rb"RIFF.{4}WAVE|ID3|fLaC|#!AMR|MThd|\xff[\xf0-\xf3\xf8-\xfb]", "an audio file"),
    (rb".{4}(?:moov|mdat|wide|free|skip)", "a QuickTime video"),
    (rb"FLV\x01", "an FLV video"),
    (rb"OggS", "an Ogg file (OGV)"),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a Windows Media file (WMV)"),
    (rb"\0\0\x01\xba", "an MPEG-1 or MPEG-2 video (MPG)"),
    (rb"\0\0\x01\xb3", "a raw MPEG-1 or MPEG-2 stream"),
    (rb"G.{187}G|.{4}G.{191}G", "an MPEG transport stream (TS)"),
    (rb"\x06\x0e\x2b\x34\x02\x05\x01\x01", "an MXF video"),
    (rb"\0?\0\0\x01[\x09\x27\x40\x46\x67]", "a raw H.264 or H.265 stream"),
    (rb"DKIF", "an IVF video"),
    (rb"YUV4MPEG2", "a YUV4MPEG video"),
    (rb"\.RMF", "a RealMedia video"),
    (rb"[FCZ]WS[\x01-\x30]", "a Flash file (SWF)"),
    (rb"nut/multimedia", "a NUT video"),
    (rb"\x1f\x07\0[\x3f\xbf]", "a raw DV video"),
    (rb"\xb7\xd8\0\x20\x37\x49\xda\x11", "a Windows TV recording (WTV)"),
    (rb".{4}[\x11\x12\x44]\xaf", "an FLI or FLC animation"),
    (rb"#EXTM3U", "a playlist (M3U)"),
    (rb"PK\x03\x04|PK\x05\x06", "a ZIP archive or an Office document"),
    (rb"\xd0\xcf\x11\xe0", "an Office document"),
    (rb"\x1f\x8b", "data compressed by gzip"),
    (rb"\{\\rtf", "an RTF document"),
    (rb"\x80[\x02-\x05][\x95}\]c(]", "a Python pickle"),
    (rb"7z\xbc\xaf|Rar!|\xfd7zXZ|\x28\xb5\x2f\xfd|BZh", "a compressed archive"),
    (rb"\x93NUMPY", "a NumPy array"),
    (rb"\x89HDF", "an HDF5 file"),
    (rb"version https://git-lfs", "a Git LFS pointer instead of the file"),
    (rb"(?i:\s*(?:<\?xml|<!--|<!doctype svg).*<svg[\s>]|\s*<svg[\s>])", "an SVG image"),
    (rb"(?i:\s*<(?:!doctype html|html|head|body)|\s*<!--.*<html)", "an HTML page"),
    (rb"\s*<[?A-Za-z]", "an XML document"),
    (rb"\s*data:[a-z]+/", "the text of a data: URL"),
    (rb"\s*(?:/9j/|iVBORw0KGgo|R0lGOD|UklGR|AAAA..Z0eX|GkXfo)", "base64 text"),
    (rb"\s*[{\[]", "JSON text"),
    (rb"\0+\Z", "nothing but zeros"),
    (rb"[^\0-\x08\x0e-\x1a\x1c-\x1f]+\Z", "text"),
)
_TGA_ENDING = b"TRUEVISION-XFILE.\0"


def name_format(data: bytes) -> str:
    """What a file is, with its article: "an AVIF image", "an HTML page"."""
    head = data[:_LOOKED_AT].removeprefix(b"\xef\xbb\xbf")
    ftyp = _FTYP.match(head[: int.from_bytes(head[:4], "big")])
    if ftyp is not None:
        major, compatible = ftyp.groups()
        brands = [major, *(compatible[at : at + 4] for at in range(0, len(compatible), 4))]
        for known, candidates in ((_IMAGE_BRANDS, brands), (_OTHER_BRANDS, brands[:1])):
            for pattern, name in known:
                if any(re.fullmatch(pattern, brand, re.DOTALL) for brand in candidates):
                    return name
    for pattern, name in _SIGNATURES:
        if re.match(pattern, head, re.DOTALL):
            return name
    return "a TGA image" if data.endswith(_TGA_ENDING) else "a file of no known format"


_IMAGES = frozenset(f"a {name} image" for name in ("JPEG", "PNG", "WebP", "GIF", "BMP"))
_VIDEO_WORDS = ("video", "OGV", "WMV", "stream")


def medium_kind(head: bytes) -> str | None:
    """``image`` or ``video``, by the first 1,024 bytes of a file; None: neither."""
    name = name_format(head)
    if any(word in name for word in _VIDEO_WORDS):
        return "video"
    return "image" if name in _IMAGES or name.startswith("a BMP") else None
