"""How the package and transformers meet: MT2 is registered with the Auto classes, and broken packages are hidden.

Importing transformers takes seconds, so `import mt2_music` leaves it out and installs an import hook instead. The hook
finds no modules of its own; it acts before and after transformers' are executed. Before the first, installed packages
that do not load are hidden from it. After those of the Auto classes, the MT2 classes are imported and registered: not
within the import of another transformers module, as modules of the two packages would then find one another half done.
"""

import sys
import threading
import warnings
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# transformers imports these wherever they are installed, so one built for another torch or system breaks all of it.
HIDDEN_IF_BROKEN = ("torchaudio", "soxr", "soundfile")

_AUTO, _OURS = "transformers.models.auto", "mt2_music"
AUTO_CLASSES = (  # module and Auto class, module and MT2 class
    (f"{_AUTO}.configuration_auto", "AutoConfig", f"{_OURS}.configuration_mt2", "MT2Config"),
    (
        f"{_AUTO}.feature_extraction_auto",
        "AutoFeatureExtractor",
        f"{_OURS}.feature_extraction.feature_extraction_mt2",
        "MT2FeatureExtractor",
    ),
    *(
        (f"{_AUTO}.modeling_auto", f"AutoModel{task}", f"{_OURS}.modeling_mt2", f"MT2{task or 'Model'}")
        for task in ("", "ForPreTraining", "ForAudioClassification", "ForAudioFrameClassification")
    ),
)
_WATCHED = {name for auto_module, _, our_module, _ in AUTO_CLASSES for name in (auto_module, our_module)}


def connect_to_transformers() -> None:
    """Install the import hook, and do at once what concerns modules that are imported already."""
    if any(isinstance(finder, _Hook) for finder in sys.meta_path):
        return
    hook = _Hook()
    sys.meta_path.insert(0, hook)  # type: ignore[arg-type]  # the base class would be slow to import
    if "transformers" in sys.modules:
        hide_broken_packages()
        hook.finished.update(name for name, _, _, _ in AUTO_CLASSES if name in sys.modules)
        hook.register()


def hide_broken_packages() -> None:
    """Make packages that are installed and do not load look as if they were not installed, with a warning."""
    for name in HIDDEN_IF_BROKEN:
        try:
            import_module(name)
        except Exception as error:  # noqa: BLE001 - a package built for another system may raise anything
            if isinstance(error, ModuleNotFoundError) and error.name == name:
                continue
            reason = f"{type(error).__name__}: {error}"
            warnings.warn(
                f"the installed {name} does not load ({reason}), and is hidden from transformers. "
                f"Run `pip uninstall {name}`, or install the build of it that belongs to your system and your torch",
                stacklevel=2,
            )
            sys.modules[name] = None  # type: ignore[assignment]  # which Python takes for "not installed"


class _Hook:
    """Wraps the loaders of transformers' modules and of the MT2 classes' so that it is told when they are executed."""

    def __init__(self) -> None:
        self.finished: set[str] = set()  # modules in `_WATCHED` that were executed
        self._registered: set[str] = set()  # Auto classes
        self._state = threading.local()  # depth: transformers modules whose import is under way, one within the other

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return what the other finders find, with a loader of our own around theirs."""
        if fullname.partition(".")[0] != "transformers" and fullname not in _WATCHED:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _HookedLoader(spec.loader, self)  # type: ignore[assignment]
        return spec

    def execute(self, loader: Any, module: ModuleType) -> None:
        """Execute a module and do what is due before and after it."""
        name = module.__name__
        if name == "transformers":
            hide_broken_packages()
        depth = getattr(self._state, "depth", 0)
        self._state.depth = depth + name.startswith("transformers")
        try:
            loader.exec_module(module)
        finally:
            self._state.depth = depth
        if name in _WATCHED:
            self.finished.add(name)
            for _, auto_name, our_module, our_name in AUTO_CLASSES:
                if our_module == name:  # what is saved names the Auto class that opens it, and carries its code
                    getattr(module, our_name).register_for_auto_class(auto_name)
        if depth == 0:
            self.register()

    def register(self) -> None:
        """Register each MT2 class with its Auto class if the latter was imported; one under way comes when it ends."""
        for auto_module, auto_name, our_module, our_name in AUTO_CLASSES:
            if auto_module not in self.finished or auto_name in self._registered:
                continue
            if our_module not in sys.modules:
                import_module(our_module)
            if our_module in self.finished:
                config: Any = import_module(f"{_OURS}.configuration_mt2").MT2Config
                auto_class = getattr(sys.modules[auto_module], auto_name)
                our_class = getattr(sys.modules[our_module], our_name)
                auto_class.register("mt2" if our_class is config else config, our_class, exist_ok=True)
                self._registered.add(auto_name)


class _HookedLoader:
    """Another loader, but for who executes the module."""

    def __init__(self, loader: Any, hook: _Hook) -> None:
        self._loader = loader
        self._hook = hook

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Do as the other loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module as if the other loader had been alone, and let the hook execute it."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._hook.execute(self._loader, module)
