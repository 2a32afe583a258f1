from .judgement import Judgement as Judgement
from .judgement import judge as judge
