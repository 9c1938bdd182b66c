"""The limits of `diagnose`: every number in one place, with its source.

Where it says "ours" the source names the sign but no number. Then the number was chosen so that
healthy networks (digits, wine, diabetes, a 2-3-1 and a ten-layer one, over seeds, before and after
training) stay well clear of it.
"""

EXAMPLES = 2000  # that are looked at, drawn from the data. Ours.

# Inputs. LeCun et al., "Efficient BackProp", 1998, section 4.3: means near 0, about equal variances, near 1.
# A feature's size is the rms of its entries that are not 0, so that rare features do not pass for small ones.
INPUT_LARGEST = 10.0  # the largest feature's size, at most. Ours.
INPUT_SMALLEST = 0.01  # the largest feature's size, at least. Ours.
INPUT_RATIO = 100.0  # largest over smallest. Ours.
NORMED = 0.1  # of its output, by which a layer that normalises may change when its input is scaled. Ours.
INPUT_OFFSET = 10.0  # |mean| over std of a feature that keeps clear of 0. Ours: raw irises reach 7.

# Cost. Karpathy, "A recipe for training neural networks", 2019: verify that the cost starts at that of
# knowing nothing, log C for C classes.
COST_TO_CHANCE = 5.0  # Ours: ten layers of He's start reach 4.4 with 200 seeds on wine.

# Units. Goodfellow et al., "Deep Learning", 2016, section 8.4, on breaking symmetry.
EQUAL = 1e-5  # of the layer's largest entry: what counts as equal. Ours, for float32.

# Maas et al., 2013, and Lu et al., "Dying ReLU and initialization", 2019, on dead units; Glorot and Bengio,
# 2010, on saturated ones. What makes a slope flat stands in `gradient_flow`.
DEAD = 0.7  # share of a layer's units. Ours; CS231n's notes see 40 % dead where a rate was too high.
SATURATED = 0.6  # share of entries. Ours.
ROWS_FOR_DEAD = 20  # examples and positions; with fewer a unit may be idle by chance. Ours.

# Error signals. Glorot and Bengio, 2010, and He et al., 2015: their size should stay about the same from layer
# to layer.
VANISHED = 1e-3  # rms of δ over that of the last layer. Ours: a sigmoid layer costs a factor of about 4.
EXPLODED = 1e3  # Ours.

# A few examples. Karpathy, 2019, and CS231n's notes: training on 20 or so must bring their cost to about 0.
FEW = 20
FEW_TO_CHANCE = 0.5  # the cost that is left, over chance level. Ours: what learns gets far below.
LEAST_CHANCE = 1e-37  # of their chance level, below which they are all alike. Ours: a logarithm of 0 is not taken.
FEW_RATES, FEW_STEPS, FEW_ROUNDS = (1e-3, 1e-2, 0.1), 100, 5  # of Adam, all of these examples in every step. Ours.

# Learning rate. CS231n's notes: updates should be about 1e-3 of the weights. The trials with other rates are ours,
# and so are all numbers here.
STEPS, BATCH = 100, 32  # of each trial
HIGHER = (10.0, 100.0, 1e3, 1e4)  # times the rate; the next only if one before gains nothing that counts
UPHILL = 1e-3  # times the rate: tried where a tenth of it makes things worse; if this does too, the sign is wrong
FIRST = 10  # steps in which updates are not too large; later the weights have grown with them
UPDATE_LARGE, UPDATE_SMALL = 0.3, 1e-5  # healthy starts reach 0.2 where plain descent wants large rates
CLEARLY = 0.1  # of the cost at the start, or of chance level if that is more: a difference that counts
PROGRESS = 0.25  # of what the higher rate gains; where both are far too low, ten times the rate gains ten times as much
TARGETS_LARGE = 10.0  # rms of y from which on scaling it is a remedy, too
UNLEARNED = 0.75  # of chance level: below it something is learned; a low rate may be right, and overfitting be

# Overfitting. Prechelt, "Early stopping - but when?", 1998: how far the validation cost stands above its least.
RISE = 0.1  # of its least, while training cost fell by as much; Prechelt tries 1 % to 5 % on larger sets. Ours.
LAST = 3  # epochs whose median is the validation cost at the end. Ours.
RISE_TO_CHANCE = 0.05  # and of chance level, so that a rise from next to nothing does not count. Ours.
GAP_TO_CHANCE = 0.25  # between validation and training, of chance level. Ours.
