"""One loopback server that stands in for every archive, with one sky behind all of them.

A service joins with a module here that has ``NAME`` (as in ``conf/archive/public.yaml``) and
``answer(request, sky)``, and with its line in `SERVICES`.
"""

from tests.archives.emulator import irsa, mast, own, ps1, sesame, skybot, skyview, vizier, xmatch
from tests.archives.emulator.server import Emulator, Reply, Request
from tests.archives.emulator.sky import Sky

SERVICES = {module.NAME: module.answer for module in (irsa, ps1, mast, vizier, xmatch, skybot, sesame)}
SERVICES |= {
    "skyview": skyview.answer,
    "hips2fits": skyview.answer_hips,
    "hips2fits_mirror": skyview.answer_hips,
    "skyserver": own.answer_skyserver,
    "sdss": own.answer_sdss,
}

__all__ = ["SERVICES", "Emulator", "Reply", "Request", "Sky"]
