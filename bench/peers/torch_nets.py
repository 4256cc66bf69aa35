"""Convoy's built-in nets, and two small ones for the fixtures, as PyTorch modules without torchvision.

alexnet, vgg16, vgg16_bn and resnet18 have torchvision's state-dict names and shapes
(tests/fixtures/torchvision_*.txt). Every net takes float images [N,C,H,W] and gives logits [N,classes];
flattening is in C,H,W order.
"""

from typing import List, Sequence, Tuple

import torch
from torch import nn

Shape = Tuple[int, int, int]  # H, W, C


class PlainNet(nn.Module):
    """features, flatten, classifier."""

    def __init__(self, features: List[nn.Module], classifier: List[nn.Module]) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(*classifier)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


def flat_features(features: List[nn.Module], shape: Shape) -> int:
    h, w, c = shape
    with torch.no_grad():
        return nn.Sequential(*features).eval()(torch.zeros(1, c, h, w)).numel()


def mlp(shape: Shape, classes: int) -> nn.Module:
    h, w, c = shape
    return PlainNet([], [nn.Linear(h * w * c, 512), nn.ReLU(), nn.Linear(512, classes)])


def mnist_cnn(shape: Shape, classes: int) -> nn.Module:
    features = [
        nn.Conv2d(shape[2], 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
    ]
    return PlainNet(
        features,
        [nn.Linear(flat_features(features, shape), 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, classes)],
    )


def cifar_cnn(shape: Shape, classes: int) -> nn.Module:
    features = [
        nn.Conv2d(shape[2], 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
    ]
    return PlainNet(
        features, [nn.Linear(flat_features(features, shape), 256), nn.ReLU(), nn.Linear(256, classes)]
    )


def alexnet(shape: Shape, classes: int) -> nn.Module:
    features = [
        nn.Conv2d(shape[2], 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
    ]
    return PlainNet(
        features,
        [
            nn.Dropout(),
            nn.Linear(flat_features(features, shape), 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, classes),
        ],
    )


def vgg16(shape: Shape, classes: int, batch_norm: bool = False) -> nn.Module:
    features: List[nn.Module] = []
    channels = shape[2]
    for block in ([64, 64], [128, 128], [256, 256, 256], [512, 512, 512], [512, 512, 512]):
        for filters in block:
            features += [nn.Conv2d(channels, filters, 3, padding=1)]
            features += [nn.BatchNorm2d(filters), nn.ReLU()] if batch_norm else [nn.ReLU()]
            channels = filters
        features += [nn.MaxPool2d(2)]
    return PlainNet(
        features,
        [
            nn.Linear(flat_features(features, shape), 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, classes),
        ],
    )


def vgg16_bn(shape: Shape, classes: int) -> nn.Module:
    return vgg16(shape, classes, batch_norm=True)


class BasicBlock(nn.Module):
    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.downsample = None
        if stride != 1 or channels != filters:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """widths, blocks: filters and number of blocks of layer1, layer2, ...; all but layer1 have stride 2."""

    def __init__(
        self, stem: nn.Conv2d, pool: nn.Module, widths: Sequence[int], blocks: Sequence[int], classes: int
    ) -> None:
        super().__init__()
        self.conv1 = stem
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        self.maxpool = pool
        channels = widths[0]
        for i, (filters, count) in enumerate(zip(widths, blocks)):
            first = BasicBlock(channels, filters, 2 if i > 0 else 1)
            others = [BasicBlock(filters, filters, 1) for _ in range(count - 1)]
            setattr(self, f"layer{i + 1}", nn.Sequential(first, *others))
            channels = filters
        self.layers = len(widths)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for i in range(self.layers):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))


def resnet18(shape: Shape, classes: int) -> nn.Module:
    h, w, c = shape
    small = h <= 64 and w <= 64
    stem = nn.Conv2d(c, 64, 3, 1, 1, bias=False) if small else nn.Conv2d(c, 64, 7, 2, 3, bias=False)
    return ResNet(
        stem, nn.Identity() if small else nn.MaxPool2d(3, 2, 1), [64, 128, 256, 512], [2, 2, 2, 2], classes
    )


def tiny_resnet(shape: Shape, classes: int) -> nn.Module:
    return ResNet(nn.Conv2d(shape[2], 8, 3, 1, 1, bias=False), nn.Identity(), [8, 16], [1, 2], classes)


def tiny_alexnet(shape: Shape, classes: int) -> nn.Module:
    # At alpha 1e-4 the neighbours hardly count in the normalisation; in the second one they do.
    features = [
        nn.Conv2d(shape[2], 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.LocalResponseNorm(4, alpha=0.5, beta=0.75, k=1.0),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(32, 24, 3, padding=1),
        nn.ReLU(),
    ]
    return PlainNet(
        features,
        [
            nn.Dropout(0.0),
            nn.Linear(flat_features(features, shape), 48),
            nn.ReLU(),
            nn.Dropout(0.0),
            nn.Linear(48, classes),
        ],
    )


NETS = {
    f.__name__: f
    for f in (mlp, mnist_cnn, cifar_cnn, alexnet, vgg16, vgg16_bn, resnet18, tiny_resnet, tiny_alexnet)
}
