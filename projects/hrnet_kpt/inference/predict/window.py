"""The window of tools/predict.py --show, by tkinter of the standard library."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image

from ...errors import UserError

PART_OF_SCREEN = 0.9  # a larger image is shown smaller


class Window:
    """A window that shows one image after another, until it is closed, also by q or Escape.

    It belongs to the thread that makes it.

    Args:
        title: Of the window.

    Attributes:
        on_close: Is called when the user closes the window.

    Raises:
        UserError: If there is no display, or no tkinter.
    """

    def __init__(self, title: str) -> None:
        try:
            import tkinter
        except ImportError as error:
            raise UserError(
                f"--show needs tkinter ({error}): apt-get install python3-tk, or leave it out"
            ) from error
        try:
            self.root = tkinter.Tk(className="hrnet_kpt")
        except tkinter.TclError as error:
            raise UserError(f"--show: there is no display ({error}): leave it out") from error
        self.on_close: Callable[[], object] = lambda: None
        self.is_open = True
        self.root.title(title)
        self.root.withdraw()  # until there is an image
        self.label = tkinter.Label(self.root, borderwidth=0)
        self.label.pack()
        self.root.protocol("WM_DELETE_WINDOW", self._closed_by_user)
        for key in ("q", "<Escape>"):
            self.root.bind(key, lambda event: self._closed_by_user())

    def show(self, image: Image.Image) -> None:
        """Show an image in the place of the last one."""
        if not self.is_open:
            return
        from PIL import ImageTk

        screen = self.root.winfo_screenwidth(), self.root.winfo_screenheight()
        limits = (int(PART_OF_SCREEN * side) for side in screen)
        factor = min(1.0, *(limit / side for limit, side in zip(limits, image.size, strict=True)))
        if factor < 1:
            image = image.resize([max(1, round(factor * side)) for side in image.size])
        self.photo = ImageTk.PhotoImage(image, master=self.root)  # tkinter keeps no reference
        self.label.configure(image=self.photo)
        self.root.deiconify()
        self.update()

    def update(self) -> None:
        """Handle what the user did."""
        if self.is_open:
            self.root.update()

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self.root.destroy()

    def _closed_by_user(self) -> None:
        self.close()
        self.on_close()
