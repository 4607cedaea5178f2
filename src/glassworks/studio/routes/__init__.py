"""The addresses under `/api`, one file per concern."""

from glassworks.studio.routes.ask import router as ask
from glassworks.studio.routes.here import router as here
from glassworks.studio.routes.jobs import router as jobs
from glassworks.studio.routes.needs import router as needs
from glassworks.studio.routes.playground import router as playground
from glassworks.studio.routes.runs import router as runs
from glassworks.studio.routes.surgery import router as surgery

ROUTERS = (ask, here, jobs, needs, playground, runs, surgery)
