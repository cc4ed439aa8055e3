# ruff: noqa: E501, SIM905, RUF005  (lists are easier to read as lines of words)
"""Word lists, written by hand for this project. They say nothing of the world but capitals and opposites."""

from __future__ import annotations

from pathlib import Path

COMMON = (Path(__file__).parent / "common.txt").read_text("utf-8").split()
"""Ordinary English words; one in eight is held out, see `draw.held_out`."""

NOUNS = """anchor apple arrow bag ball barn basket bean bell belt bench bike bird blanket boat book boot bottle bowl box
brick bridge broom brush bucket bus button cabin cage cake camera candle candy canoe card carpet cart castle cave chain
chair cheese cherry clock cloak coat coin comb cookie corn couch crate crown cup curtain desk dish doll door drawer
drum engine envelope fan feather fence field flag flower flute fork forest fountain garden gate glass glove goat grape
guitar hammer harp hat hill horn hose house island jacket jar jeep jewel jug kettle key kite knife ladder lake lamp
lantern leaf lemon letter lock log loom magnet map marble mask match melon mill mirror moon motor mug nail needle nest
net oak onion orange oven paddle paint pan paper path peach pear pearl pebble pencil phone piano pie pillow pin pipe
plane plate plum pocket pond pot potato pump purse puzzle quilt rack radio raft rail rake ribbon ring river road rock
rocket roof rope rose rug sack saddle sail sandwich scarf screw seed shed shelf shell shield ship shirt shoe shovel sink
skate sled soap sock sofa spade spoon spring stamp star station statue stone stool stove straw street sweater table
tablet tent thread tile tomato tool towel tower toy train tray tree truck trumpet tunnel umbrella vase vest village
violin wagon wall watch wheel whistle window wire wood yard zipper""".split()
ADJECTIVES = """bent big black blue brave bright broken brown busy calm cheap clean clever cold cool dark deep dirty dry
dusty early empty fancy fast flat fresh full gentle giant gold good grand gray green happy hard heavy hidden high hot huge
kind large late lazy light little lonely long loud low lucky narrow neat new nice noisy odd old open pale pink plain
proud purple quick quiet rare red rich rough round sad secret shallow sharp shiny short shy silent silver simple slow
small smart smooth soft sour spare square steep strange strong sunny sweet tall thick thin tidy tiny tired warm weak wet
white wide wild wise yellow young""".split()
VERBS = """asked borrowed bought broke brought built buried called carried caught checked chose cleaned closed copied
counted covered cut drew dropped dug emptied filled finished fixed folded followed forgot found gave got hated held hid
kept kicked left lent lifted liked locked lost loved made mended moved needed noticed opened packed painted passed
picked placed planted praised pulled pushed raised reached remembered repaired sent shared showed sold stole stored
swapped threw tied took touched traded turned used visited wanted washed watched weighed wore wrapped""".split()
ADVERBS = """again alone already always badly carefully early eagerly easily gladly here inside late loudly never often
once outside quickly quietly rarely slowly sometimes soon suddenly there today together twice upstairs yesterday""".split()
NAMES = """Ada Alan Alice Amir Amy Ana Anders Anna Arjun Ben Bella Bruno Carla Carlos Chen Chloe Clara Dan Daria David Diego
Dora Elena Elias Ella Emma Eric Eva Farid Felix Fiona Frank George Gertrude Gina Grace Greta Hana Hassan Helen Hugo Ida
Igor Ines Iris Isaac Ivan Jack Jana Jin Joan Jonas Julia Kai Karim Kate Kenji Lara Lena Leo Liam Lina Lucas Lucy Maja Marco
Maria Mark Max Maya Mei Mia Milan Nadia Nico Nina Noah Nora Oliver Olga Omar Oscar Pablo Paul Petra Priya Quinn Rana Ravi
Rita Robert Rosa Ruth Sam Sara Sofia Stefan Sven Tara Theo Tim Tom Uma Vera Victor Wei Wendy Yara Yuki Yusuf Zoe""".split()
SURNAMES = """Adler Bauer Becker Brown Carter Castro Chen Clark Costa Cruz Davis Diaz Evans Fischer Garcia Green Gupta Hall
Harris Hill Ito Jansen Jones Kaya Keller Khan Kim King Klein Kovac Lee Lopez Martin Meyer Miller Moreau Mori Nagy Novak Olsen
Ortiz Park Patel Petrov Price Reed Ricci Rossi Sato Silva Singh Smith Stone Tanaka Torres Turner Walker Wang Weber White
Wilson Wong Wood Young Yilmaz Zhang""".split()
CAPITALS = dict(pair.split("=") for pair in """Argentina=Buenos Aires;Australia=Canberra;Austria=Vienna;Belgium=Brussels;
Brazil=Brasilia;Bulgaria=Sofia;Canada=Ottawa;Chile=Santiago;China=Beijing;Colombia=Bogota;Croatia=Zagreb;Cuba=Havana;
Denmark=Copenhagen;Egypt=Cairo;Estonia=Tallinn;Ethiopia=Addis Ababa;Finland=Helsinki;France=Paris;Germany=Berlin;Ghana=Accra;
Greece=Athens;Hungary=Budapest;Iceland=Reykjavik;India=New Delhi;Indonesia=Jakarta;Iran=Tehran;Iraq=Baghdad;Ireland=Dublin;
Israel=Jerusalem;Italy=Rome;Jamaica=Kingston;Japan=Tokyo;Jordan=Amman;Kenya=Nairobi;Latvia=Riga;Lebanon=Beirut;
Lithuania=Vilnius;Luxembourg=Luxembourg;Malta=Valletta;Mexico=Mexico City;Morocco=Rabat;Nepal=Kathmandu;
Netherlands=Amsterdam;Nigeria=Abuja;Norway=Oslo;Pakistan=Islamabad;Peru=Lima;Poland=Warsaw;Portugal=Lisbon;Romania=Bucharest;
Russia=Moscow;Serbia=Belgrade;Slovakia=Bratislava;Slovenia=Ljubljana;South Korea=Seoul;Spain=Madrid;Sweden=Stockholm;
Switzerland=Bern;Thailand=Bangkok;Tunisia=Tunis;Turkey=Ankara;Ukraine=Kyiv;United Kingdom=London;
United States=Washington;Uruguay=Montevideo;Vietnam=Hanoi""".replace("\n", "").split(";"))
CITIES = sorted(set(CAPITALS.values()) | set("""Atlanta;Austin;Barcelona;Basel;Bergen;Bologna;Boston;Bremen;Bristol;Busan;
Cape Town;Chicago;Cologne;Dallas;Delft;Denver;Detroit;Dresden;Dubai;Edinburgh;Florence;Frankfurt;Geneva;Ghent;Glasgow;Graz;
Hamburg;Hong Kong;Houston;Istanbul;Kobe;Krakow;Kyoto;Leeds;Leipzig;Los Angeles;Lyon;Malaga;Manchester;Marseille;Melbourne;Miami;
Milan;Montreal;Mumbai;Munich;Naples;New York;Nice;Osaka;Oxford;Palermo;Perth;Philadelphia;Phoenix;Porto;Portland;Rio de Janeiro;
Rotterdam;Salzburg;San Diego;San Francisco;Seattle;Seville;Shanghai;Singapore;Stuttgart;Sydney;Tampa;Toronto;Toulouse;Turin;
Utrecht;Valencia;Vancouver;Venice;York;Zurich;San Francisco, CA;Boston, MA;Austin, Texas;sf;nyc;london;paris""".replace(
    "\n", "").split(";")))  # fmt: skip
OPPOSITES = dict(pair.split("=") for pair in """hot=cold big=small fast=slow up=down left=right old=new rich=poor happy=sad
light=dark open=closed hard=soft wet=dry long=short full=empty early=late strong=weak loud=quiet clean=dirty high=low good=bad
true=false day=night inside=outside first=last near=far heavy=light black=white yes=no win=lose buy=sell push=pull give=take
thick=thin wide=narrow deep=shallow sweet=sour start=stop begin=end love=hate war=peace top=bottom front=back alive=dead
brave=afraid cheap=expensive easy=difficult friend=enemy""".split())
COLORS = "red blue green yellow black white brown gray pink purple orange silver gold violet".split()
ANIMALS = """ant badger bear bee camel cat cow crab crow deer dog donkey duck eagle elephant fish fox frog goat goose hamster
hen horse kangaroo lion lizard monkey mouse otter owl panda parrot penguin pig pony rabbit rat seal shark sheep snail snake
spider squirrel swan tiger turtle whale wolf zebra""".split()
FOODS = """apple pie|bread|butter|cheese|soup|rice|pasta|salad|pizza|toast|honey|jam|noodles|pancakes|stew|curry|cake|ice
cream|chocolate|tea|coffee|milk|juice|beans|sausages|olives|pickles|yogurt|muffins|waffles""".replace("\n", " ").split("|")
TOOLS = """hammer saw drill wrench screwdriver chisel pliers axe shovel rake file clamp ruler level brush ladder anvil crowbar
sander vise""".split()
SPORTS = """tennis football rowing boxing skiing cycling hockey judo golf swimming rugby fencing sailing karate climbing
surfing archery basketball baseball running""".split()
INSTRUMENTS = """piano violin drum flute harp guitar trumpet cello organ tuba banjo clarinet oboe saxophone accordion
mandolin bassoon ukulele trombone bagpipe""".split()
TOPICS = {"animals": ANIMALS, "food": FOODS, "tools": TOOLS, "sports": SPORTS, "music": INSTRUMENTS}
"""Subjects of long texts, and the words that give them away."""
JOBS = """actor baker barber builder carpenter chef clerk dancer dentist doctor driver engineer farmer guard judge lawyer
miner nurse painter pilot plumber poet sailor singer soldier tailor teacher vet waiter writer""".split()
LANGUAGES = """Arabic Chinese Czech Danish Dutch English Finnish French German Greek Hindi Italian Japanese Korean Latin
Norwegian Polish Portuguese Russian Spanish Swedish Turkish""".split()
CURRENCIES = "USD EUR GBP JPY CHF CAD AUD CNY INR SEK NOK PLN BRL MXN".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
ROOMS = "kitchen bedroom bathroom garage hall office garden attic cellar".replace("\n", " ").split() + ["living room"]
STOCKS = "AAPL AMD AMZN GOOG IBM INTC META MSFT NFLX NVDA ORCL SAP TSLA".split()
SUBJECTS = """black holes|bread baking|chess openings|climate change|coral reefs|deep sea fish|electric cars|garden plants|
honey bees|jazz music|language models|mountain bikes|python decorators|rain forests|river fishing|solar panels|space travel|
stock markets|the French revolution|the Roman empire|train tickets|used cars|volcanoes|whales|wind turbines|yoga classes|
the best pizza in Naples|how to fix a bike|quantum computing|ancient Egypt|open source licenses|cheap flights to Rome""".replace(
    "\n", "").split("|")  # fmt: skip
ORDINALS = "first second third fourth fifth sixth seventh eighth".split()
GOOD = "amazing brilliant excellent fantastic great lovely nice perfect superb wonderful delightful".split()
BAD = "awful bad boring broken disgusting horrible nasty poor terrible useless disappointing".split()

TOOL_VERBS = """add archive assign book build calculate cancel check close compute convert copy count create delete describe
export fetch filter find get import label list load lookup merge move open pause plan play post publish query rank read
remove rename reserve reset restart restore run save schedule search send set share show sort start stop store sync tag test
translate update upload validate write""".split()
TOOL_NOUNS = """account alarm album article backup balance bill block board branch build calendar card cart case channel claim
comment config contact contract course customer dashboard database device document door email event exam expense feature feed
file flight folder form game goal graph group hotel image index invoice issue item job key lamp lead lesson license link
location log map meeting member message metric model movie node note offer order package page parcel patient payment photo
player playlist policy post price product profile project quiz quote receipt recipe record region reminder rental report
reservation review role room route row rule sample schedule score section sensor server session setting shift shipment
signal song source stock store student subscription table tag task taxi team template tenant test thread ticket timer token
topic track trip unit user vehicle video visit volume voucher wallet warehouse webhook zone""".split()
PARAMETERS = """address age amount author body brand category city code color comment company content count country
currency customer_id date day delay description destination device distance due_date duration email end end_date
expression file_path filename first_name format from_date genre height hours id input item key label language last_name
latitude length level limit line location longitude max_results message method minutes mode model month name notes number
option order_id origin owner page path phone price priority product_id quantity query radius rate reason recipient region
room score seat sender sort_by source speed start start_date state status street subject table tag target team temperature
text theme time timezone title to topic type unit url user_id username value version volume weight width word year
zip_code""".split()
