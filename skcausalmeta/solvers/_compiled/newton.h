/* One Newton step on the face of the simplices that holds a point. */

/* Damping of systems in single precision, relative to the largest curvature. */
#define LEAST_COARSE 1e-7
#define COARSE_DAMPING 1e-6 /* of many entries */
/* Steps of at least this damping move at most a share of entries in the last round. */
#define ROUGH_DAMPING 1e-4
#define ROUGH_SHARE 60
/* The damping of later steps. */
#define LEAST_DAMPING 1e-13

/* Entries of rows that can gain: those that are positive or whose slope is above
   the mean of their row. Rows that lack most go first where not all find place: 0. */
static int find_face(const Task *task, const Point *point, ptrdiff_t largest,
                     Face *face, ptrdiff_t *order)
{
    const ptrdiff_t ldn = task->ldn;
    ptrdiff_t n_entries = 0, n_rows = 0, n_kept = task->n;
    ptrdiff_t *count = order + task->n;
    ptrdiff_t total = 0;
    for (ptrdiff_t i = 0; i < task->n; i++) {
        double level = 0;
        for (ptrdiff_t l = 0; l < task->n_classes; l++)
            level += point->a[l * ldn + i] * point->g[l * ldn + i];
        level /= task->sums[i];
        ptrdiff_t found = 0;
        for (ptrdiff_t l = 0; l < task->n_classes; l++)
            found += point->a[l * ldn + i] > 0 || point->g[l * ldn + i] > level;
        count[i] = found;
        total += found > 1 ? found - 1 : 0;
        order[i] = i;
    }
    if (total > largest) {
        /* Shell sort by what the rows lack, largest first. */
        for (ptrdiff_t gap = task->n / 2; gap > 0; gap /= 2)
            for (ptrdiff_t k = gap; k < task->n; k++) {
                ptrdiff_t row = order[k], q = k;
                for (; q >= gap && point->lack[order[q - gap]] < point->lack[row];
                     q -= gap)
                    order[q] = order[q - gap];
                order[q] = row;
            }
        total = 0;
        for (n_kept = 0; n_kept < task->n; n_kept++) {
            ptrdiff_t found = count[order[n_kept]];
            total += found > 1 ? found - 1 : 0;
            if (total > largest && n_kept > 0)
                break;
        }
    }
    for (ptrdiff_t k = 0; k < n_kept; k++) {
        ptrdiff_t i = order[k];
        if (count[i] < 2)
            continue;
        double level = 0;
        for (ptrdiff_t l = 0; l < task->n_classes; l++)
            level += point->a[l * ldn + i] * point->g[l * ldn + i];
        level /= task->sums[i];
        int top = -1;
        face->row[n_rows] = (int)i;
        face->first[n_rows] = (int)n_entries;
        for (ptrdiff_t l = 0; l < task->n_classes; l++) {
            double entry = point->a[l * ldn + i];
            if (!(entry > 0 || point->g[l * ldn + i] > level))
                continue;
            face->slot_row[n_entries] = (int)n_rows;
            face->cls[n_entries] = (int)l;
            if (top < 0 || entry > point->a[face->cls[top] * ldn + i])
                top = (int)n_entries;
            n_entries++;
        }
        face->pivot[n_rows++] = top;
    }
    face->first[n_rows] = (int)n_entries;
    face->n_rows = n_rows;
    face->n_entries = n_entries;
    face->size = 0;
    for (ptrdiff_t e = 0; e < n_entries; e++) {
        int is_pivot = face->pivot[face->slot_row[e]] == e;
        face->place[e] = is_pivot ? -1 : (int)face->size;
        if (!is_pivot)
            face->entry[face->size++] = (int)e;
    }
    return n_kept == task->n;
}

static int new_face(Face *face, const Task *task, Arena *arena)
{
    ptrdiff_t n_rows = task->n + 1, n_entries = task->n * task->n_classes + 1;
    int *numbers = arena_take(arena, (3 * n_rows + 4 * n_entries) * sizeof(int));
    if (arena->failed)
        return 0;
    face->row = numbers;
    face->first = numbers + n_rows;
    face->pivot = numbers + 2 * n_rows;
    face->slot_row = numbers + 3 * n_rows;
    face->cls = face->slot_row + n_entries;
    face->place = face->cls + n_entries;
    face->entry = face->place + n_entries;
    return 1;
}

/* Where D stops to rise on [0, 1] along a direction of this slope, to a tenth of
   the slope: ||V + t dV|| is the root of a quadratic in t. */
static double line_search(const Task *task, const Part *part, const Point *point,
                          const double *move, const double *direction, double slope,
                          Arena *arena)
{
    const ptrdiff_t n_groups = part->n_groups, ldn = task->ldn, ldd = part->ldd;
    Mark mark = arena_mark(arena);
    double *cross = arena_zeros(arena, 2 * n_groups * sizeof(double));
    double *square = cross + n_groups;
    double straight = 0, low = 0, high = 1, at_low = slope, at_high = 0, t = 1;
    if (arena->failed)
        return 0;
    if (part->gram) {
        double curvature = 0;
        for (ptrdiff_t l = 0; l < task->n_classes; l++)
            curvature -= dot_f64(move + l * ldd, direction + l * ldn, task->n);
        curvature /= task->lambda2;
        arena_release(arena, mark);
        return curvature > slope ? slope / curvature : 1;
    }
    for (ptrdiff_t l = 0; l < task->n_classes; l++) {
        const double *v = point->v + l * ldd, *dv = move + l * ldd;
        if (part->groups)
            for (ptrdiff_t j = 0; j < part->d; j++) {
                cross[part->groups[j]] += v[j] * dv[j];
                square[part->groups[j]] += dv[j] * dv[j];
            }
        else
            for (ptrdiff_t j = 0; j < n_groups; j++) {
                cross[j] += v[j] * dv[j];
                square[j] += dv[j] * dv[j];
            }
        straight += dot_f64(task->linear + l * ldn, direction + l * ldn, task->n);
    }
    for (int round = 0; round < 30; round++) {
        double falling = 0, fallen = 0, terms = 0;
        for (ptrdiff_t g = 0; g < n_groups; g++) {
            double before = point->norms[g], threshold = part->thresholds[g];
            double norm2 = before * before + t * (2 * cross[g] + t * square[g]);
            double norm = sqrt(norm2 > 1e-300 ? norm2 : 1e-300);
            double excess = norm > threshold ? norm - threshold : 0;
            double had = before > threshold ? before - threshold : 0;
            falling += excess / norm * (cross[g] + t * square[g]);
            fallen += (excess - had) * (excess + had);
            terms += had * had;
        }
        double rising = straight - falling / task->lambda2;
        /* At the end of the step entries reach 0 exactly: it is worth a little, if D
           rises there by more than rounding hides. */
        double risen = t * straight - fallen / (2 * task->lambda2);
        double hidden = 1e-13 * (fabs(straight) + terms / task->lambda2);
        if (round == 0 && rising >= -0.3 * slope && risen >= 0.1 * slope - hidden)
            break;
        if (round > 0 && fabs(rising) < 0.02 * slope)
            break;
        if (rising > 0) {
            low = t;
            at_low = rising;
        } else {
            high = t;
            at_high = rising;
        }
        double share = at_low / (at_low - at_high);
        share = share > 0.1 ? (share < 0.9 ? share : 0.9) : 0.1;
        /* D is sure to have risen at `low` only. */
        t = round == 29 && low > 0 ? low : low + share * (high - low);
    }
    arena_release(arena, mark);
    return t;
}

/* What the quadratic model of D on a face is made of. */
typedef struct {
    double *gradient, *from, *x; /* (n_entries,): lambda2 times the slope, A, maximum */
    double *sums, *damping;      /* (n_rows,) */
    double scale;                /* largest gradient */
} Model;

/* The maximum of the model, as `maximise` tells; its curvature in single precision if
   coarse. */
static int maximise_model(const Task *task, const Part *part, const Point *point,
                          const Face *face, Model *model, int coarse, double damping,
                          Forward *out, Arena *arena)
{
    Mark mark = arena_mark(arena);
    const ptrdiff_t ldh = PADDED(face->size);
    const int rounds = face->n_entries < 400 ? 16 : 8;
    /* Far from the solution the model is not worth its exact maximum. */
    const ptrdiff_t slack = damping >= ROUGH_DAMPING ? face->size / ROUGH_SHARE : 0;
    size_t wide = coarse ? sizeof(float) : sizeof(double);
    void *h = arena_take(arena, (face->size * ldh + PAD) * wide);
    double top = 0;
    int found;
    if (arena->failed)
        return -1;
    if (coarse)
        hessian_f32(task, part, face, point->v, point->norms, h, ldh, arena);
    else
        hessian_f64(task, part, face, point->v, point->norms, h, ldh, arena);
    for (ptrdiff_t k = 0; k < face->size; k++) {
        double entry = coarse ? ((float *)h)[k * ldh + k] : ((double *)h)[k * ldh + k];
        top = entry > top ? entry : top;
    }
    top = top > 0 ? top : 1;
    if (coarse && damping < (face->n_entries > 250 ? COARSE_DAMPING : LEAST_COARSE))
        damping = face->n_entries > 250 ? COARSE_DAMPING : LEAST_COARSE;
    /* Rows of more than the usual weight have further to go. */
    for (ptrdiff_t r = 0; r < face->n_rows; r++)
        model->damping[r] = damping * top * fmin(1, task->usual / model->sums[r]);
    if (coarse)
        found = maximise_f32(face, h, ldh, model->gradient, model->from, model->sums,
                             model->damping, 1e-6 * model->scale, rounds, slack,
                             model->x, &out->n_factors, arena);
    else
        found = maximise_f64(face, h, ldh, model->gradient, model->from, model->sums,
                             model->damping, 1e-12 * model->scale, rounds, 0, model->x,
                             &out->n_factors, arena);
    arena_release(arena, mark);
    return found;
}

/* One Newton step from a measured point; the length of it, 0 where it fails. */
static double newton_step(const Task *task, const Part *part, Point *point, Face *face,
                          int coarse, double damping, Forward *out, Arena *arena)
{
    const ptrdiff_t ldn = task->ldn, ldd = part->ldd, n_entries = face->n_entries;
    Mark mark = arena_mark(arena);
    Model model;
    double *numbers =
        arena_take(arena, (3 * n_entries + 2 * face->n_rows) * sizeof(double));
    double *direction = arena_zeros(arena, task->n_classes * ldn * sizeof(double));
    double *move = arena_take(arena, task->n_classes * ldd * sizeof(double));
    if (arena->failed)
        return 0;
    model.gradient = numbers;
    model.from = numbers + n_entries;
    model.x = numbers + 2 * n_entries;
    model.sums = numbers + 3 * n_entries;
    model.damping = model.sums + face->n_rows;
    model.scale = 0;
    for (ptrdiff_t r = 0; r < face->n_rows; r++) {
        ptrdiff_t i = face->row[r], p = face->cls[face->pivot[r]] * ldn + i;
        model.sums[r] = task->sums[i];
        for (int e = face->first[r]; e < face->first[r + 1]; e++) {
            ptrdiff_t k = face->cls[e] * ldn + i;
            model.gradient[e] = task->lambda2 * (point->g[k] - point->g[p]);
            model.from[e] = point->a[k];
            model.scale = fmax(model.scale, fabs(model.gradient[e]));
        }
    }
    int found =
        maximise_model(task, part, point, face, &model, coarse, damping, out, arena);
    if (found < 0 && coarse)
        found = maximise_model(task, part, point, face, &model, 0, damping, out, arena);
    double slope = 0, t = 0;
    for (ptrdiff_t e = 0; e < n_entries && found >= 0; e++) {
        ptrdiff_t k = face->cls[e] * ldn + face->row[face->slot_row[e]];
        direction[k] = model.x[e] - model.from[e];
        slope += model.gradient[e] * direction[k];
    }
    slope /= task->lambda2;
    if (!(slope > 0) || !(slope < 1e200) || arena->failed) {
        arena_release(arena, mark);
        return 0;
    }
    thin_f64(direction, ldn, task->n_classes, part->rows, ldd, NULL, task->n, ldd, move,
             ldd);
    for (ptrdiff_t k = 0; k < task->n_classes * ldd; k++)
        move[k] = -move[k];
    t = line_search(task, part, point, move, direction, slope, arena);
    for (ptrdiff_t k = 0; k < task->n_classes * ldd; k++)
        point->v[k] += t * move[k];
    for (ptrdiff_t e = 0; e < n_entries; e++) {
        ptrdiff_t k = face->cls[e] * ldn + face->row[face->slot_row[e]];
        double start = model.from[e], end = model.x[e];
        point->a[k] = fmax(0, t == 1 ? end : start + t * (end - start));
    }
    arena_release(arena, mark);
    return t;
}

static double next_damping(double damping, double t)
{
    double factor = t >= 0.9 ? 0.03 : t > 0.4 ? 0.2 : t >= 0.1 ? 1 : 10;
    damping *= factor;
    return damping < LEAST_DAMPING ? LEAST_DAMPING : damping > 1 ? 1 : damping;
}
