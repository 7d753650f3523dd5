"""Commerce vision: what the system offers, as strings."""

from daybreak.lab.system import System

system = System(
    name="commerce",
    line="similar images and products, tags, outfits, over a living catalogue",
    ingest="daybreak.systems.commerce.data:ingest",
    embedded="daybreak.systems.commerce.data:embedded",
    recipes={
        "shopnet": "daybreak.systems.commerce.recipe:Shopnet",
        "outfits": "daybreak.systems.commerce.outfits.recipe:Outfits",
        "recommend": "daybreak.systems.commerce.recommend.recipe:Recommend",
    },
    models={
        "shop": "daybreak.systems.commerce.model:Shop",
        "clip": "daybreak.systems.commerce.clip:ClipShop",
        "stylist": "daybreak.systems.commerce.outfits.model:Stylist",
        "recommender": "daybreak.systems.commerce.recommend.model:Recommender",
    },
    commands={
        "add": "daybreak.systems.commerce.commands:add",
        "remove": "daybreak.systems.commerce.commands:remove",
        "snapshot": "daybreak.systems.commerce.commands:snapshot",
        "restore": "daybreak.systems.commerce.commands:restore",
        "compact": "daybreak.systems.commerce.commands:compact",
        "check": "daybreak.systems.commerce.commands:check",
        "clip": "daybreak.systems.commerce.clip:clip",
        "reembed": "daybreak.systems.commerce.commands:reembed",
        "board": "daybreak.systems.commerce.board:board",
        "demo": "daybreak.systems.commerce.board:demo",
    },
)
