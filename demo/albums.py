"""The albums of a server, by token: what it was started with, and what visitors uploaded."""

from __future__ import annotations

import threading
from collections import OrderedDict

from demo.album import Album
from demo.previews import Previews


class Albums:
    """The uploads of all visitors, by token; those not asked for longest go when there are `most`."""

    def __init__(self, most: int, max_photos: int, max_bytes: int) -> None:
        """most: albums of uploads; max_photos, max_bytes: of each."""
        self.most, self.max_photos, self.max_bytes = most, max_photos, max_bytes
        self.previews = Previews()
        self._lock = threading.Lock()
        self._albums: OrderedDict[str, Album] = OrderedDict()

    def new(self) -> Album:
        album = self.add(Album(max_photos=self.max_photos, max_bytes=self.max_bytes))
        with self._lock:
            own = [token for token, kept in self._albums.items() if kept.folder is not None]
            gone = [self._albums.pop(token) for token in own[: -self.most]]
        for old in gone:
            old.close()
        return album

    def add(self, album: Album) -> Album:
        """Make an album known by its token; the server's own stay until the end."""
        with self._lock:
            self._albums[album.token] = album
        return album

    def get(self, token: str) -> Album | None:
        with self._lock:
            if token in self._albums:
                self._albums.move_to_end(token)
            return self._albums.get(token)

    def close(self, token: str) -> None:
        with self._lock:
            album = self._albums.pop(token, None)
        if album is not None:
            album.close()

    def close_all(self) -> None:
        """The server ends."""
        for token in list(self._albums):
            self.close(token)
