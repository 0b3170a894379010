"""The words that names are made of: products from colours, patterns and things, people from made-up syllables.

No name of a real product line, company or person belongs here.
"""

COLOURS = (
    "RED", "BLUE", "CREAM", "GREEN", "PINK", "IVORY", "BLACK", "WHITE", "MINT", "LILAC", "AMBER", "SILVER", "GOLD",
    "TEAL", "GREY", "CORAL", "NAVY", "YELLOW",
)  # fmt: skip
PATTERNS = (
    "SPOTTY", "STRIPED", "FLORAL", "HEART", "VINTAGE", "RUSTIC", "POLKADOT", "DAISY", "OWL", "WOODLAND", "LACE",
    "PAISLEY", "RETRO", "GINGHAM", "STAR", "BUTTERFLY", "ROSE", "ALPINE", "ENAMEL", "ZIGZAG",
)  # fmt: skip
THINGS = {
    "kitchen": ("MIXING BOWL", "CAKE TIN", "EGG CUP", "SPICE RACK", "APRON", "TEA TOWEL", "SCALES", "OVEN GLOVE",
                "RECIPE BOX", "ROLLING PIN"),
    "tableware": ("TEA CUP", "SIDE PLATE", "CAKE STAND", "MILK JUG", "NAPKIN RING", "SUGAR BOWL", "PLACE MAT",
                  "TEAPOT", "COASTER", "BUTTER DISH"),
    "home decor": ("PHOTO FRAME", "DOORSTOP", "WALL CLOCK", "CUSHION COVER", "METAL SIGN", "VASE", "DRAWER KNOB",
                   "MIRROR", "COAT HOOK", "DOOR MAT"),
    "lighting": ("T-LIGHT HOLDER", "LANTERN", "CANDLE", "FAIRY LIGHTS", "CANDLESTICK", "NIGHT LIGHT", "LAMP SHADE",
                 "VOTIVE", "TABLE LAMP", "INCENSE SET"),
    "christmas": ("BAUBLE", "TREE GARLAND", "ADVENT CALENDAR", "STOCKING", "SNOW GLOBE", "WREATH", "REINDEER",
                  "TREE SKIRT", "ANGEL", "CRACKER SET"),
    "garden": ("WATERING CAN", "PLANT POT", "BIRD FEEDER", "WIND CHIME", "HERB MARKER", "TROWEL", "PARASOL",
               "KNEELER", "SEED TIN", "PICNIC RUG"),
    "bags": ("LUNCH BAG", "SHOPPER", "JUMBO BAG", "TOILETRY BAG", "SUITCASE", "STORAGE BOX", "PURSE", "BACKPACK",
             "LAUNDRY BASKET", "TOTE"),
    "stationery": ("NOTEBOOK", "PENCIL CASE", "GREETING CARD", "ERASER", "RULER", "STICKER SHEET", "PEN POT",
                   "MEMO BOARD", "CHALK SET", "DIARY"),
    "toys": ("SKIPPING ROPE", "JIGSAW", "DOLL", "SPINNING TOP", "MONEY BOX", "PLAYHOUSE", "DOMINOES", "KITE",
             "TEDDY", "BUILDING BLOCKS"),
    "jewellery": ("NECKLACE", "BRACELET", "HAIR CLIP", "BROOCH", "EARRINGS", "CHARM", "TRINKET BOX", "KEY RING",
                  "RING DISH", "BANGLE"),
    "party": ("BUNTING", "PAPER CUPS", "BALLOONS", "CAKE CASES", "PAPER STRAWS", "PARTY HATS", "CONFETTI",
              "CAKE CANDLES", "PARTY BAGS", "FACE MASK"),
    "gift wrap": ("WRAPPING PAPER", "RIBBON REEL", "GIFT TAGS", "GIFT BAG", "TISSUE PAPER", "GIFT BOX", "BOW SET",
                  "WASHI TAPE", "TWINE", "CARD ENVELOPES"),
}  # fmt: skip
ADD_ONS = ("REFILL", "SPARE PART", "MATCHING LID", "STAND", "CARE KIT")

SYLLABLES = (
    "zev", "quo", "mip", "dru", "vax", "lor", "wib", "plo", "tesk", "nuv", "yol", "grim", "fep", "osk", "hul", "bri",
    "jud", "kex", "sna", "ulm",
)  # fmt: skip
