#!/usr/bin/env python3
"""A plug-in for GIMP 3 that makes a dark picture bright, as a new layer.

Copy this folder into GIMP's folder of plug-ins, and let COMMAND say where llflow is. GIMP has a
Python of its own, so that llflow runs beside it.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import gi

gi.require_version("Gimp", "3.0")
from gi.repository import Gimp, Gio, GLib  # noqa: E402

COMMAND = ["llflow", "enhance"]
NAME = "llflow-brighten"
OF_GIMP = ("PYTHONHOME", "PYTHONPATH")  # which another Python isn't to follow


class Brighten(Gimp.PlugIn):
    def do_query_procedures(self):
        return [NAME]

    def do_create_procedure(self, name):
        procedure = Gimp.ImageProcedure.new(self, name, Gimp.PDBProcType.PLUGIN, brighten, None)
        procedure.set_image_types("RGB*, GRAY*")
        procedure.set_menu_label("_Brighten (LLFlow)")
        procedure.add_menu_path("<Image>/Colors")
        procedure.set_documentation("Makes a dark picture bright, as a new layer", None, name)
        return procedure


def brighten(procedure, mode, image, drawables, config, data):
    with TemporaryDirectory() as folder:
        dark, bright = (Path(folder, f"{name}.png") for name in ("dark", "bright"))
        seen = image.duplicate()
        seen.flatten()
        Gimp.file_save(Gimp.RunMode.NONINTERACTIVE, seen, Gio.File.new_for_path(str(dark)), None)
        seen.delete()
        if message := enhanced(dark, bright):
            failed = Gimp.PDBStatusType.EXECUTION_ERROR
            return procedure.new_return_values(failed, GLib.Error(message))
        file = Gio.File.new_for_path(str(bright))
        layer = Gimp.file_load_layer(Gimp.RunMode.NONINTERACTIVE, image, file)
    layer.set_name("LLFlow")
    image.insert_layer(layer, None, 0)
    Gimp.displays_flush()
    return procedure.new_return_values(Gimp.PDBStatusType.SUCCESS, None)


def enhanced(dark, bright):
    """Run llflow; what went wrong, or nothing."""
    environment = {name: value for name, value in os.environ.items() if name not in OF_GIMP}
    command = [*COMMAND, str(dark), "-o", str(bright)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    except OSError as error:
        return f"{COMMAND[0]}: {error.strerror}; COMMAND in {__file__} says where it is"
    if not done.returncode:
        return ""
    return done.stderr.strip() or f"{COMMAND[0]} ended with exit code {done.returncode}"


Gimp.main(Brighten.__gtype__, sys.argv)
