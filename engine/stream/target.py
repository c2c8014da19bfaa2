"""What a stream may be opened from: a file, an address or a camera, and what FFmpeg may do with it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from engine.errors import SourceError
from engine.system.addresses import hide_password

# What a file may be. Playlists are left out: they name other files and addresses, which a stranger's would make us
# open.
_FILE_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,flv,asf,ogg,mjpeg,h264,hevc,gif,ivf,obu,"
    "mxf,dv,nut,wtv,rm,yuv4mpegpipe"
)
# What a network stream may lead to: never a file of this machine.
_NETWORK_PROTOCOLS = "http,https,tcp,tls,crypto,data,httpproxy,rtsp,rtsps,rtp,srtp,udp,rtmp,rtmps,rtmpt,srt,mms,mmsh"
_URL_OPTIONS = {
    "protocol_whitelist": _NETWORK_PROTOCOLS,
    # UDP loses packets, and with them the lower part of pictures.
    "rtsp_transport": "tcp",
}
# What cameras are opened with: format, address, options. Apple's refuse the rate that FFmpeg would ask for, 29.97.
_WEBCAMS: dict[str, tuple[str, str, dict[str, str]]] = {
    "linux": ("v4l2", "/dev/video{}", {}),
    "darwin": ("avfoundation", "{}", {"framerate": "30"}),
}


@dataclass(frozen=True)
class Target:
    """What PyAV opens.

    Attributes:
        name: for messages.
        address: path, URL or device; not shown, as it may hold a password.
        format: of FFmpeg, or None to find out.
        options: of FFmpeg's demuxer.
    """

    name: str
    address: str = field(repr=False)
    format: str | None
    options: dict[str, str]

    @property
    def advice(self) -> str:
        """What to do where it cannot be opened."""
        if self.format:
            return "check that the camera is there, is not in use, and may be read by this user"
        if "://" in self.address:
            return "check the address and that it can be reached from here"
        return "expected a complete video file, such as MP4, MKV, AVI, MOV or MPEG-TS"


def file_target(path: str) -> Target:
    """A video file; whatever it holds, nothing but this file is opened."""
    # With its protocol named, FFmpeg takes no part of a path for an option or another protocol.
    return Target(path, f"file:{path}", None, {"format_whitelist": _FILE_FORMATS, "protocol_whitelist": "file"})


def url_target(url: str) -> Target:
    """A network stream."""
    return Target(hide_password(url), url, None, dict(_URL_OPTIONS))


def webcam_target(index: int) -> Target:
    """The camera with this number.

    Raises:
        SourceError: cameras are not read by number on this system.
    """
    if sys.platform not in _WEBCAMS:
        raise SourceError(
            f"cameras are opened by number on Linux and macOS, not on {sys.platform}; read it with another library and "
            "pass its frames: counter.stream(frames, live=True)"
        )
    kind, address, camera_options = _WEBCAMS[sys.platform]
    return Target(f"camera {index}", address.format(index), kind, dict(camera_options))
