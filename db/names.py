"""Two-word names for runs and sweeps: easier to say and to remember than a number."""

from __future__ import annotations

import random


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ADJECTIVES = _words(
    """
    able agile airy amber ample apt azure balmy bold brave breezy bright brisk broad calm candid casual civil clean
    clear clever cosy crisp daring dear deft eager early easy elder fair fancy fast fine firm fleet fond frank free
    fresh full gentle glad golden good grand great green handy happy hardy hasty hearty honest humble ideal ivory
    jolly keen kind large lasting late light lilac limber lively loyal lucid lucky mellow merry mild misty modest
    neat nimble noble novel olive open patient placid plain polite prime proud pure quick quiet rapid rare ready
    regal rosy royal ruby sage sharp shy silent silver simple sleek smart smooth snug sober soft solid spry stable
    steady still stout strong sunny sure swift tame tender tidy true vivid warm wise witty young zesty
    """
)
ANIMALS = _words(
    """
    adder alpaca ant auk badger bat bear beaver bee beetle bison boar bobcat buck camel carp cat civet cobra cod
    colt condor coot coral cougar crab crane cricket crow curlew deer dingo dodo dolphin donkey dove dragon drake
    duck eagle eel egret eland elk emu ermine falcon ferret finch fox frog gannet gazelle gecko gibbon gnu goat
    goose grouse gull hare hawk heron hippo hornet horse ibex ibis iguana impala jackal jaguar jay kestrel kite kiwi
    koala lamb lark lemur leopard lion lizard llama lobster loon lynx macaw magpie mallard marmot marten mole moose
    moth mouse mule newt ocelot octopus okapi orca oriole osprey ostrich otter owl ox oyster panda panther parrot
    pelican penguin perch pigeon pike pony puffin puma quail rabbit raccoon ram raven robin rook salmon seal shark
    sheep shrew shrimp sloth snail sparrow squid stag stoat stork swan swift tapir tern tiger toad trout tuna turtle
    viper vole walrus weasel whale wolf wombat wren yak zebra
    """
)

_TRIES_WITHOUT_NUMBER = 12  # at 10,000 runs about half of all pairs are taken

# Not the global generator: its state belongs to the training.
_generator = random.SystemRandom()


def propose(attempt: int) -> str:
    """A random name, such as keen-otter; after many attempts with a number behind it, such as keen-otter-271."""
    pair = f"{_generator.choice(ADJECTIVES)}-{_generator.choice(ANIMALS)}"
    return pair if attempt < _TRIES_WITHOUT_NUMBER else f"{pair}-{_generator.randrange(2, 10 ** (attempt // 4))}"
