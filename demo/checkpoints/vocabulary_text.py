"""The text the demo tokenizer learns its vocabulary from.

Small on purpose: enough English, numbers, JSON and markup that an answer of the demo checkpoint
reads as words rather than as letters.
"""

PROSE = """
The picture shows a street with two red cars, a blue bus and three people who walk along the river.
On the left side of the image there is a green tree; on the right side there is a small white house.
The sky is blue and the light comes from above, so the shadow of the tower falls on the grass below.
A woman in a yellow dress is holding a cup of coffee.
The man next to her is reading a newspaper.
There are five birds on the roof, a cat under the table, and a dog that sleeps behind the door.
How many circles are in the image?
There are four circles: one red, one green and two black ones.
What colour is the largest square?
The largest square is orange, and it is above the purple triangle.
In the first frame the ball is on the left.
After two seconds it moves to the right and then it stops.
The video begins with a wide view of the city and ends with a close view of a flower in the garden.
At 12.5 seconds the camera turns around, and between 20 and 30 seconds nothing in the scene changes.
Please describe this image in detail.
Please answer with a single word.
Read the text in the picture.
Where is the red object?
It is at the top left corner, near the edge, behind the glass of water.
I cannot see any text here, but I can see a sign that says "OPEN" and another that says "EXIT".
The table has three columns: name, price and number.
The total price is 1,234.56 and the tax is 19%.
The chart shows that the value rises from 10 in 2019 to 85 in 2024, then falls again to 42.
You are a helpful assistant.
You may call one or more functions to help with the question of the user.
Sorry, I do not know.
Yes, that is right.
No, that is not true.
Maybe, but I would need a larger image.
It's a sunny day and they're playing football.
He doesn't know what she's doing; we'll find out later.
This document was written by hand.
The date is Monday, 3 March 2025, and the time is 09:45.
""".strip()

STRUCTURED = """
{"bbox_2d": [120, 84, 260, 312], "label": "car"}
{"point_2d": [64, 48], "label": "person"}
[{"bbox_2d": [0, 0, 448, 448], "label": "image", "text": "hello world"}]
{"name": "get_weather", "arguments": {"city": "Paris", "unit": "celsius", "days": 3}}
{"action": "click", "coordinate": [320, 240], "type": "left_click", "status": "done"}
{"count": 7, "color": "red", "shape": "circle", "size": "small", "visible": true, "other": null}
{"answer": false, "items": [], "total": 0.5, "start_time": 1.0, "end_time": 2.5}
<div class="page"><p data-bbox="10 20 30 40">Title</p><table><tr><td>1</td></tr></table></div>
```json
[
    {"key": "value", "id": 1},
    {"key": "other", "id": 2}
]
```
```python
def main(name):
    for index in range(10):
        print(name, index)
    return True
```
# Heading
- first item
- second item
1. one
2. two
https://www.example.com/image.jpg
x = 3 + 4 * 2 - 1; y <= 10 and z != 5 (a, b, c) & more | less @ # $ % ^ ~
""".strip()

COMMON_WORDS = """
the of and to in is that it was for on are with as his they be at one have this from or had by hot
but some what there we can out other were all your when up use word how said an each she which do
their time if will way about many then them would write like so these her long make thing see him
two has look more day could go come did my sound no most number who over know water than call
first people may down side been now find any new work part take get place made live where after
back little only round man year came show every good me give our under name very through just form
much great think say help low line before turn cause same mean differ move right boy old too does
tell sentence set three want air well also play small end put home read hand port large spell add
even land here must big high such follow act why ask men change went light kind off need house
picture try us again animal point mother world near build self earth father head stand own page
should country found answer school grow study still learn plant cover food sun four thought let
keep eye never last door between city tree cross since hard start might story saw far sea draw
left late run while press close night real life few stop open seem together next white children
begin got walk example ease paper often always music those both mark book letter until mile river
car feet care second group carry took rain eat room friend began idea fish mountain north once
base hear horse cut sure watch color face wood main enough plain girl usual young ready above ever
red list though feel talk bird soon body dog family direct pose leave song measure state product
black short numeral class wind question happen complete ship area half rock order fire south
problem piece told knew pass farm top whole king size heard best hour better true during hundred
remember step early hold west ground interest reach fast five sing listen six table travel less
morning ten simple several vowel toward war lay against pattern slow center love person money
serve appear road map science rule govern pull cold notice voice fall power town fine certain fly
unit lead cry dark machine note wait plan figure star box noun field rest correct able pound done
beauty drive stood contain front teach week final gave green quick develop sleep warm free minute
strong special mind behind clear tail produce fact street inch lot nothing course stay wheel full
force blue object decide surface deep moon island foot yet busy test record boat common gold
possible plane age dry wonder laugh thousand ago ran check game shape yes miss brought heat snow
bed bring sit perhaps fill east weight language among image video frame photo scene camera
background corner circle square triangle rectangle yellow orange purple brown pink gray colour
bright blurry texture flower temple window glass building bridge sky cloud grass leaf petal stone
wall roof people woman child chair screen button text label title chart graph column row value
total price date left right bottom upper lower middle inside outside beside visible hidden zero
seven eight nine eleven twelve twenty thirty forty fifty
""".strip()


def training_lines() -> list[str]:
    """Lines of text; every common word also occurs after a space and capitalised."""
    words = COMMON_WORDS.split()
    spaced = [f" {word}" for word in words]
    capitalised = [f" {word.capitalize()}" for word in words[:200]]
    return [*PROSE.splitlines() * 3, *STRUCTURED.splitlines() * 3, *spaced * 2, *capitalised]
