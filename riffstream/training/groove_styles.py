"""What MMA's groove files are called, how they feel, how fast they go: one row a file of its library."""

from __future__ import annotations

from riffstream.training.styles import Style
from riffstream.training.styles_electronic import make_style

__all__ = ["GROOVE_STYLES"]

# file | tags, comma separated | moods | scenes | bpm from | to | harmony
_ROWS = """
50srock|fifties rock and roll,50s rock,rock'n'roll|lively,nostalgic|jukebox diner,dancing in the fifties|120|168|major,blues
60srock|sixties rock,60s beat music,british invasion|cheerful,retro|a sixties pop band|116|150|major
8beat|8-beat pop,soft pop rock|easygoing,bright|easy listening pop|88|124|major,minor
arpeggio44|piano arpeggios,arpeggio ballad|flowing,gentle|flowing arpeggios|70|110|major,minor,calm
arpeggiowaltz|arpeggio waltz,flowing waltz|flowing,graceful|a flowing waltz|90|140|major,minor
ballad|soft rock ballad,ballad|tender,romantic|a romantic ballad,slow dance|62|92|major,minor
ballad128|twelve-eight ballad,doo-wop ballad|tender,nostalgic|a doo-wop slow dance|56|80|major
basicrock|rock,basic rock,straight rock beat|steady,solid|a simple rock band|100|140|major,minor
bebop|bebop,fast swing jazz|fast,hot|bebop in new york|160|220|jazz,blues
beguine|beguine,latin ballroom|graceful,romantic|a moonlit latin dance|100|132|major,jazz
bigband|big band,swing big band|brassy,swinging|a swing era ballroom,big band dance|120|176|jazz,major
bluefolk|folk blues,blue folk|earthy,wistful|a folk blues on the porch|84|120|major,blues
bluegrass|bluegrass,country bluegrass|rustic,fast|bluegrass festival|120|168|major
blues|blues,electric blues,twelve-bar blues|bluesy,gritty|blues club,chicago blues|84|126|blues
blues128|slow blues,twelve-eight blues|soulful,slow|slow blues at midnight|52|76|blues
boggiewoggie|boogie-woogie,boogie piano|rollicking,swinging|boogie-woogie party|124|168|blues
bolero|bolero,latin bolero|romantic,sultry|a romantic bolero|84|116|minor,major
boneym|euro disco,70s disco pop|danceable,happy|seventies disco party|112|130|major,minor
bossanova|bossa nova,brazilian bossa nova|breezy,warm|the girl from ipanema,coffee in rio|112|146|jazz,minor_jazz
broadway|broadway,musical theatre|showy,bright|a broadway musical|104|144|major,jazz
broadwaywaltz|broadway waltz,show waltz|graceful,theatrical|a waltz in a musical|110|160|major,jazz
bubblerock|bubblegum pop,bubblegum rock|sweet,bouncy|sixties bubblegum pop|112|144|major
bvfunk|funk,funk groove|funky,tight|a funky jam|92|116|modal,blues
bwmarch|brass march,marching band|proud,brisk|a marching band parade|104|124|major
calypso|calypso,caribbean|sunny,carefree|caribbean island party|104|140|major
chacha|cha-cha,cha cha cha|playful,latin|cha-cha dance class|104|128|minor,major
charleston|charleston,roaring twenties jazz,1920s dance|jaunty,old-time|a twenties speakeasy,flappers dancing|140|200|jazz,major
countryblues|country blues,delta blues|rustic,bluesy|blues on a country road|80|120|blues
countryswing|country swing,western swing|swinging,cheerful|a country dance hall|112|160|major
countrywaltz|country waltz,waltz|rustic,tender|a country waltz|96|140|major
cubanguitar|cuban guitar,cuban music|warm,rhythmic|a street in havana|96|130|minor,major
descendingjazz|walking jazz,descending jazz|cool,strolling|a jazz stroll|96|140|jazz,minor_jazz
desert|desert music,middle eastern groove|mysterious,exotic|a desert caravan|84|116|dark,modal
dixie|dixieland,new orleans jazz,trad jazz|jaunty,festive|new orleans street parade|140|200|jazz,major
dixiemarch|dixieland march,new orleans march|festive,proud|mardi gras parade|104|130|major
dsoul|southern soul,soul|soulful,warm|a soul revue|92|120|major,blues
easyswing|easy swing,swing|relaxed,swinging|easy listening swing|96|140|jazz
evansish|modern jazz piano,bill evans style jazz|sophisticated,impressionistic|impressionist jazz|84|132|jazz,minor_jazz
fastblues|fast blues,jump blues|energetic,bluesy|jump blues dance|136|190|blues
fastjazzwaltz|fast jazz waltz|swinging,light|a fast jazz waltz|150|200|jazz
fastswing|fast swing,swing jazz|fast,swinging|lindy hop dancing|170|220|jazz
fastwaltz|fast waltz,waltz|whirling,lively|whirling waltz|150|200|major
folk|folk,acoustic folk|earthy,simple|folk club|88|126|major,minor
folkballad|folk ballad,acoustic ballad|tender,honest|a folk ballad|66|96|major,minor
folkrock|folk rock|bright,earthy|sixties folk rock|96|132|major,minor
folkyjazz|folk jazz,acoustic jazz|mellow,light|acoustic jazz picnic|88|130|jazz,major
foxtrot|foxtrot,ballroom foxtrot|elegant,smooth|ballroom foxtrot|110|140|jazz,major
frenchwaltz|french waltz,musette,accordion waltz|romantic,parisian|a waltz in paris|120|180|minor,major
guitarballad|guitar ballad,acoustic guitar ballad|tender,warm|a ballad on guitar|62|96|major,minor
gypsyjazz|gypsy jazz,swing manouche|hot,swinging|hot club of france|150|210|minor_jazz,minor
hillcountry|hill country,country picking|rustic,lively|picking on the porch|96|140|major
hymn|hymn,church hymn|solemn,reverent|sunday service hymn|62|92|major
jazzcombo|jazz combo,small jazz group|cool,swinging|a jazz combo in a bar|104|168|jazz,minor_jazz
jazzguitar|jazz guitar,guitar jazz|mellow,smooth|mellow jazz guitar|88|144|jazz,minor_jazz
jazzrhumba|jazz rhumba,latin jazz|smooth,latin|latin jazz lounge|100|132|jazz,minor_jazz
jazzrock|jazz rock,fusion|electric,driving|seventies jazz rock|100|138|minor_jazz,modal
jazzwaltz|jazz waltz|swinging,elegant|jazz in three|112|170|jazz
jive|jive,swing jive|energetic,bouncy|jive dancing|150|184|blues,major
latinwaltz|latin waltz|graceful,latin|a latin waltz|100|150|minor,major
lfusion|latin fusion|colourful,rhythmic|latin fusion band|100|136|minor_jazz,modal
lighttango|light tango,tango|elegant,dramatic|an elegant tango|108|132|minor
lullaby|lullaby,gentle lullaby|soothing,soft|a lullaby|56|80|major,calm
mambo|mambo,cuban mambo|hot,brassy|mambo night|140|190|minor,major
march|march,military march|brisk,proud|soldiers marching|104|126|major
mellowjazz|mellow jazz,soft jazz|mellow,warm|mellow jazz for dinner|80|116|jazz,minor_jazz
merengue|merengue|festive,fast|merengue party|130|170|major,minor
modernjazz|modern jazz|cool,angular|modern jazz quartet|110|170|jazz,minor_jazz,modal
modernjazzwaltz|modern jazz waltz|cool,floating|a modern jazz waltz|110|168|jazz,minor_jazz
nitejazz|night jazz,late night jazz|smoky,quiet|late night jazz bar|66|104|jazz,minor_jazz
pianoballad|piano ballad|tender,emotional|a tender piano ballad|60|90|major,minor
polka|polka,oompah polka|jolly,bouncy|beer garden polka|110|140|major
popballad|pop ballad,slow pop|emotional,tender|a slow pop ballad|64|94|major,minor
popspiritual|pop spiritual,uplifting gospel pop|uplifting,bright|uplifting gospel pop|96|124|major
quickstep|quickstep,ballroom quickstep|light,fast|ballroom quickstep|170|208|jazz,major
ragtime|ragtime,piano rag|jaunty,old-time|ragtime saloon|92|126|major,blues
rb-ballad|r&b ballad,soul ballad|smooth,soulful|a soul ballad|60|88|major,jazz
rb|rhythm and blues,r&b|groovy,soulful|classic rhythm and blues|92|124|blues,major
rhumba|rumba,rhumba|sensual,latin|rumba by candlelight|96|124|minor,major
rock-128|twelve-eight rock,rock ballad in triplets|nostalgic,steady|fifties prom night|64|92|major
rockballad|rock ballad|emotional,powerful|a rock ballad with lighters|66|92|minor,major
rockwaltz|rock waltz|swaying,driving|rock in three|100|150|major,minor
salsa|salsa|hot,danceable|salsa night|150|196|minor,major
samba|samba,brazilian samba|festive,colourful|carnival in rio|92|120|major,minor_jazz
showtune|show tune,musical|bright,theatrical|a show tune on stage|104|144|major,jazz
shuffleboggie|shuffle boogie,boogie shuffle|rolling,bluesy|a boogie shuffle|110|150|blues
ska|ska,jamaican ska|bouncy,offbeat|ska party|120|160|major,minor
slowblues|slow blues|sad,bluesy|slow sad blues|54|80|blues
slowbolero|slow bolero|romantic,slow|a slow romantic bolero|70|92|minor
slowbroadway|slow broadway ballad,theatre ballad|tender,theatrical|a ballad from a musical|60|88|major,jazz
slowcountry|slow country,country ballad|tender,rustic|a slow country song|60|92|major
slowjazz|slow jazz,jazz ballad|smoky,romantic|slow jazz at night|56|84|jazz,minor_jazz
slowspiritual|slow spiritual,gospel hymn|reverent,soulful|a slow spiritual|54|80|major
softrock|soft rock,easy listening|mellow,easygoing|soft rock radio|88|120|major,minor
softshoe|soft shoe,vaudeville|light,charming|soft-shoe dancing|96|130|jazz,major
son|cuban son,son cubano|warm,rhythmic|old havana son band|104|140|minor,major
spiritual|spiritual,gospel|uplifting,soulful|a gospel spiritual|84|116|major,blues
stringballad|string ballad,ballad with strings|lush,romantic|a ballad with lush strings|58|88|major,minor
strut|strut,new orleans strut|cocky,strolling|strutting down the street|96|132|blues,major
swing|swing,swing jazz|swinging,upbeat|swing dancing|116|176|jazz
tango|tango,ballroom tango|dramatic,sharp|a passionate tango|112|132|minor,dark
trance|electronic dance,midi trance,synth dance|hypnotic,steady|synthesizer dance music|124|140|minor,modal
twist|twist,sixties twist|fun,retro|doing the twist|140|172|blues,major
vienesewaltz|viennese waltz,orchestral waltz|whirling,elegant|a ball in vienna|150|186|major
waltz|waltz,slow waltz|graceful,romantic|a graceful waltz|90|130|major,minor
westernswing|western swing|swinging,twangy|cowboys swinging|120|170|major
zydeco|zydeco,cajun|festive,rustic|louisiana bayou party|120|160|major,blues
"""


def _rows() -> dict[str, Style]:
    styles = {}
    for row in _ROWS.strip().splitlines():
        name, tags, moods, scenes, low, high, harmony = row.split("|")
        bars = [text.replace(",", "|") for text in (tags, moods, scenes, harmony)]
        styles[name] = make_style(
            f"mma_{name}", bars[0], bars[1], bars[2], (float(low), float(high)), bars[3], "bass piano bass_whole",
            production="plain|plain|room|warm|hall|vinyl|bright|tape", room=(1.1, 0.18), weight=0.75,
        )  # fmt: skip
    return styles


GROOVE_STYLES: dict[str, Style] = _rows()
