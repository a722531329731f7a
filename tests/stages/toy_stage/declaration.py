"""What the program knows of `areas`."""

from mcis_cli.stages.stage import Content, MetaOfImages, Stage, Work

SCHEMA = {"pixels": ("int64", 1)}


def recipe(masks, images):
    return AREAS.recipe({}, {"masks": masks, "images": images.digest("images")})


def _wanted(request):
    masks, images = request.start, request.images_of_start
    return request.settings.pseudo, images, lambda settled: recipe(masks.id, images)


def _run(*args):
    from toy_stage.run import run

    return run(*args)


def _fault_of(fields, meta):
    return "a negative count" if (fields["pixels"] < 0).any() else None


AREAS = Stage(
    name="areas",
    version=1,
    title="areas of classes",
    content=Content(kind="areas", schemas=(SCHEMA,), meta=MetaOfImages, fault_of=_fault_of),
    work=Work(
        command="areas",
        section="pseudo",
        run=_run,
        wanted=_wanted,
        roles={"masks": ("pseudo masks",)},
        starts_from=lambda settings: "pseudo masks",
    ),
)
