"""k-means against scikit-learn, faiss and all distances."""

import sys

import pytest
import torch
from sklearn.cluster import KMeans

from lightning_mi.estimator import gpu_search
from lightning_mi.estimator.kmeans import cluster, fit_kmeans, lloyd, search
from tests.helpers.draws import blobs


def inertia(x, centroids):
    return torch.cdist(x, centroids).min(dim=1).values.square().sum().item()


def test_as_good_as_scikit_learn():
    x = torch.randn(1500, 8)
    quantizer, _ = fit_kmeans(x, 20)
    ours = inertia(quantizer.scaler.center_and_clip(x), quantizer.centroids)
    theirs = (
        KMeans(20, n_init=1, random_state=0).fit(quantizer.scaler.center_and_clip(x).double().numpy()).inertia_
    )
    assert ours < 1.03 * theirs


def test_assignment_is_the_nearest_centroid():
    x = torch.randn(1000, 6)
    quantizer, member_of = fit_kmeans(x, 15)
    assert torch.equal(member_of, quantizer.assign(x))
    new = torch.randn(500, 6)
    brute = torch.cdist(quantizer.scaler.center_and_clip(new).double(), quantizer.centroids.double()).argmin(dim=1)
    assert (quantizer.assign(new) == brute).float().mean() > 0.998  # ties in float32


def test_lloyd_equals_faiss_from_the_same_start():
    faiss = pytest.importorskip("faiss")
    x = torch.randn(800, 5)
    start = x[:12].clone()
    theirs = faiss.Kmeans(5, 12, niter=10, min_points_per_centroid=1, max_points_per_centroid=1000)
    theirs.train(x.numpy(), init_centroids=start.numpy())
    torch.testing.assert_close(lloyd(x, start, 10)[0], torch.from_numpy(theirs.centroids), rtol=1e-4, atol=1e-4)


def test_empty_clusters_move_to_the_farthest_points():
    x = blobs(300, 2, 4)
    start = torch.cat([x[:1], torch.full((3, 2), 1e4)])
    centroids, _ = lloyd(x, start, 25)
    assert centroids.abs().max() < 1e3
    assert inertia(x, centroids) < 0.2 * inertia(x, x.mean(dim=0, keepdim=True))


def test_same_bits_again_and_global_random_numbers_untouched():
    x = torch.randn(500, 10)
    state = torch.get_rng_state()
    first = fit_kmeans(x, 30, seed=3)[0].centroids
    assert torch.equal(first, fit_kmeans(x, 30, seed=3)[0].centroids)
    assert not torch.equal(first, fit_kmeans(x, 30, seed=4)[0].centroids)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("clusters", [1, 3, 50])
def test_constant_points_fall_in_one_cluster(clusters):
    x = torch.full((50, 4), 2.5)
    assert len(fit_kmeans(x, clusters)[1].unique()) == 1


def test_as_good_as_scikit_learn_after_a_start_in_principal_components():
    x = torch.randn(3000, 300) * torch.arange(1, 301) ** -0.5
    ours = inertia(x, cluster(x, 40)[0])
    assert ours < 1.03 * KMeans(40, n_init=1, random_state=0).fit(x.double().numpy()).inertia_


def test_a_sample_of_many_points_gives_centres_as_good():
    x = blobs(20_000, 4, 8, spread=3.0)
    centroids, member_of = cluster(x, 8)
    assert len(member_of) == 20_000
    brute = torch.cdist(x.double(), centroids.double()).argmin(dim=1)
    assert (member_of == brute).float().mean() > 0.998
    assert inertia(x, centroids) < 1.01 * KMeans(8, n_init=3, random_state=0).fit(x.double().numpy()).inertia_


@pytest.fixture(params=["with faiss", "without faiss"])
def _search_on_gpu(request, monkeypatch):
    if request.param == "without faiss":
        monkeypatch.setattr(gpu_search, "faiss_on_gpu", lambda: None)
    elif gpu_search.faiss_on_gpu() is None:
        pytest.skip("needs faiss with support for this GPU")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.usefixtures("_search_on_gpu")
def test_a_gpu_gives_clusters_as_good_and_the_same_bits_again():
    x = torch.randn(4000, 32)
    host, device = fit_kmeans(x, 64)[0], fit_kmeans(x.cuda(), 64)[0]
    assert device.centroids.is_cuda
    assert device.assign(x.cuda()).is_cuda
    points = host.scaler.center_and_clip(x)
    assert inertia(points, device.centroids.cpu()) < 1.05 * inertia(points, host.centroids)
    assert torch.equal(device.centroids, fit_kmeans(x.cuda(), 64)[0].centroids)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.usefixtures("_search_on_gpu")
def test_a_gpus_search_is_that_of_the_host_and_leaves_the_users_faiss_as_it_is():
    points, centroids = torch.randn(5000, 32), torch.randn(64, 32)
    cost, found = search(points, centroids)
    on_gpu = search(points.cuda(), centroids.cuda())
    assert (found == on_gpu[1].cpu()).float().mean() > 0.999
    torch.testing.assert_close(cost, on_gpu[0].cpu(), atol=1e-3, rtol=1e-3)
    sliced = search(torch.randn(5000, 64).cuda()[:, ::2], centroids.cuda())  # not contiguous
    assert sliced[1].shape == (5000,)

    assert "faiss.contrib.torch_utils" not in sys.modules
